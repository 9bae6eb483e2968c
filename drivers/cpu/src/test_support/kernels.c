// Kernels for tests: what `ired_hal::conformance` asks of a device. No library, no state, no calls out.

typedef unsigned char u8;
typedef unsigned int u32;
typedef long long i64;

#define KERNEL(name)                                                                                          \
    __attribute__((visibility("default"))) void name(u8 *const *bindings, const i64 *constants, u32 x, u32 y, \
                                                     u32 z)

static i64 least(i64 a, i64 b) { return a < b ? a : b; }

// out[i] = lhs[i] + rhs[i]; constants: count, elements of one workgroup.
KERNEL(add_f32) {
    const float *lhs = (const float *)bindings[0], *rhs = (const float *)bindings[1];
    float *out = (float *)bindings[2];
    i64 end = least(constants[0], (x + 1) * constants[1]);
    for (i64 i = x * constants[1]; i < end; i++) out[i] = lhs[i] + rhs[i];
}

// dst[i] = src[i]; constants: bytes, bytes of one workgroup.
KERNEL(copy_bytes) {
    i64 end = least(constants[0], (x + 1) * constants[1]);
    for (i64 i = x * constants[1]; i < end; i++) ((volatile u8 *)bindings[1])[i] = bindings[0][i];
}

// out[i] = in[i] * factor; constants: count, elements of one workgroup, factor.
KERNEL(scale_by_constant) {
    const float *in = (const float *)bindings[0];
    float *out = (float *)bindings[1];
    i64 end = least(constants[0], (x + 1) * constants[1]);
    for (i64 i = x * constants[1]; i < end; i++) out[i] = in[i] * (float)constants[2];
}

// A table that is reached through relocated addresses: its entries are addresses of data.
static const u32 zero = 0, one = 1;
static const u32 *const steps[] = {&zero, &one};

// out[(z * height + y) * width + x] += that index + 1; constants: width, height.
KERNEL(count_ids) {
    i64 index = (z * constants[1] + y) * constants[0] + x;
    ((u32 *)bindings[0])[index] += (u32)index + *((const u32 *volatile *)steps)[1];
}
