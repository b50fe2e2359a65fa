/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifdef __x86_64__
#pragma GCC target("avx2")
#include "hash/lanes.h"

static int usable(void) { return __builtin_cpu_supports("avx2"); }

const struct hash_kernel plover_kernel_avx2 = {"avx2", LANES, 6, usable, hash_lanes};
#endif
