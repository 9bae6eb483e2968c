%0 = ired.alloc %1
%2 = ired.alloc %3 {ired.arena}
%4 = ired.slice %2[%c0, %1] {ired.slot = 0 : i64}
ired.dispatch @matmul_0::@matmul_0 bindings(%arg0, %arg1, %4) {access = ["r", "r", "w"], ired.root = 0 : i64}
ired.barrier
ired.dispatch @exp_1::@exp_1 bindings(%4, %4) {access = ["r", "w"], ired.in_place = [0], ired.root = 2 : i64}
ired.barrier
ired.dispatch @matmul_0::@matmul_0 bindings(%4, %arg1, %0) {access = ["r", "r", "w"], ired.root = 4 : i64}
ired.output 0 : %0[%5, %c8]
