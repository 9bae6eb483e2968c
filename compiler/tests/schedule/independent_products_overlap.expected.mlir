%0 = ired.alloc %c256
%1 = ired.alloc %2 {ired.arena}
%3 = ired.slice %1[%c0, %4] {ired.slot = 0 : i64}
%5 = ired.slice %1[%6, %4] {ired.slot = 1 : i64}
%7 = ired.slice %1[%8, %4] {ired.slot = 2 : i64}
ired.dispatch @matmul_0::@matmul_0 bindings(%arg0, %arg1, %3) {access = ["r", "r", "w"], ired.root = 0 : i64}
ired.dispatch @matmul_0::@matmul_0 bindings(%arg0, %arg2, %5) {access = ["r", "r", "w"], ired.root = 2 : i64}
ired.barrier
ired.dispatch @transpose_1::@transpose_1 bindings(%3, %7) {access = ["r", "w"], ired.root = 1 : i64}
ired.barrier
ired.dispatch @matmul_2::@matmul_2 bindings(%7, %5, %0) {access = ["r", "r", "w"], ired.root = 3 : i64}
ired.output 0 : %0[%c8, %c8]
