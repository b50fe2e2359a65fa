/* SPDX-License-Identifier: GPL-3.0-or-later */
/* AVX-512 has what AVX2 lacks and CityHash consists of: 64-bit multiplication (DQ) and rotation,
 * on 256-bit vectors (VL). */
#ifdef __x86_64__
#pragma GCC target("avx2,avx512f,avx512dq,avx512vl")
#include "hash/lanes.h"

static int usable(void) { return __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"); }

const struct hash_kernel plover_kernel_avx512 = {"avx512", LANES, 6, usable, hash_lanes};
#endif
