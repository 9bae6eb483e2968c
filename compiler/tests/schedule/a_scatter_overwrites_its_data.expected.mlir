%0 = ired.alloc %c128
%1 = ired.alloc %c32
ired.dispatch @neg_0::@neg_0 bindings(%arg0, %0) {access = ["r", "w"], ired.in_place = [0], ired.root = 0 : i64}
ired.barrier
ired.dispatch @scatternd_1::@scatternd_1 bindings(%0, %arg1, %arg2, %0) {access = ["r", "r", "r", "w"], ired.in_place = [0], ired.root = 1 : i64}
ired.barrier
ired.dispatch @reduce_sum_2::@reduce_sum_2 bindings(%0, %1) {access = ["r", "w"], ired.root = 2 : i64}
ired.output 0 : %0[%c8, %c4]
ired.output 1 : %1[%c8]
