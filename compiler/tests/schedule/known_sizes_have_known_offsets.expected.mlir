%0 = ired.alloc %c48
%1 = ired.alloc %c192 {ired.arena}
%2 = ired.slice %1[%c0, %c128]
%3 = ired.slice %1[%c128, %c48]
%4 = ired.slice %1[%c0, %c48]
ired.dispatch @matmul_0::@matmul_0 bindings(%arg0, %arg1, %2) {access = ["r", "r", "w"], ired.root = 0 : i64}
ired.barrier
ired.dispatch @matmul_1::@matmul_1 bindings(%2, %arg2, %3) {access = ["r", "r", "w"], ired.root = 1 : i64}
ired.barrier
ired.dispatch @softmax_2::@softmax_2 bindings(%3, %4) {access = ["r", "w"], ired.root = 2 : i64}
ired.barrier
ired.dispatch @transpose_3::@transpose_3 bindings(%4, %0) {access = ["r", "w"], ired.root = 3 : i64}
ired.output 0 : %0[%c3, %c4]
