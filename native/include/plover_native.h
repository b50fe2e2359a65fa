/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Plover's native library: hashing, dirty tracking and page sets. This header is the specification.
 *
 * A page is PLOVER_PAGE (4096) bytes. A bitmap is an array of uint64_t words, least significant bit first:
 * page i is bit i % 64 of word i / 64. Page numbers are uint32_t. Every function checks its bounds and
 * returns a negative errno on bad input (-EINVAL, -ERANGE, -ENOMEM, ...); none aborts, none prints.
 * No function keeps a pointer that it was given, except plover_tracker_open: a tracker uses `base` and `pool` until it is closed.
 */
#ifndef PLOVER_NATIVE_H
#define PLOVER_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#define PLOVER_ABI 8u
#define PLOVER_PAGE 4096u
#define PLOVER_BLOCK 64u
#define PLOVER_BLOCKS (PLOVER_PAGE / PLOVER_BLOCK) /* per page; a mask of blocks is a uint64_t, block i is its bit i */
#define PLOVER_API __attribute__((visibility("default")))

typedef struct plover_pool plover_pool;
typedef struct plover_tracker plover_tracker;
typedef struct plover_agreement plover_agreement;
typedef struct plover_couple plover_couple;

PLOVER_API uint32_t plover_abi_version(void);

/* CityHash64 (the algorithm of CityHash v1.0.3 and v1.1) of n bytes; bit-exact with Google's. */
PLOVER_API uint64_t plover_cityhash64(const void *data, size_t n);

/* Let the process keep up to keep_bytes of freed memory, from allocations of up to block_bytes_max each, instead of returning
 * it to the kernel at once. The kernel clears and maps fresh memory page by page. For the target of a copy of pages, that takes
 * 25 times as long as the copy itself. 0 or -EINVAL. */
PLOVER_API int plover_keep_freed_memory(size_t keep_bytes, size_t block_bytes_max);

/* A pool of threads that live until plover_pool_free; the caller takes part in the work.
 * threads: 0 = one per core, at most 1024. Calls from several threads take turns. NULL: too many, or no memory or thread. */
PLOVER_API plover_pool *plover_pool_new(unsigned threads);
PLOVER_API unsigned plover_pool_threads(const plover_pool *pool);
PLOVER_API void plover_pool_free(plover_pool *pool);

/* dst |= src; returns the number of bits set in dst. */
PLOVER_API int64_t plover_bitmap_union(uint64_t *dst, const uint64_t *src, size_t words);
/* Page numbers set in the bitmap of `pages` bits, ascending; returns how many. -ERANGE: more than `capacity`. -EINVAL: a bit
 * after the last page is set. */
PLOVER_API int64_t plover_bitmap_pages(const uint64_t *bitmap, size_t pages, uint32_t *out, size_t capacity);

/* Set the bits index[0..n) in a bitmap of `bits` bits, (bits + 63) / 64 words, and clear all others. 0 or -ERANGE. */
PLOVER_API int plover_bitmap_of(const uint32_t *index, size_t n, uint64_t *bitmap, size_t bits);

/* out[i] = CityHash64 of page index[i] of the `pages` pages at base. 0 or -ERANGE.
 * kernel: NULL for the best one, or a name from plover_hash_kernel, for tests and benchmarks; -EINVAL: this CPU cannot run a
 * kernel of that name. All kernels give the same hashes. */
PLOVER_API int plover_hash_pages(plover_pool *pool, const void *base, size_t pages, const uint32_t *index, size_t n,
                                 uint64_t *out, const char *kernel);
/* Names of the kernels that this CPU can run, best first; NULL after the last. "avx512" and "avx2" hash four pages side
 * by side, "pairs" two, "plain" one; the last two run everywhere. */
PLOVER_API const char *plover_hash_kernel(unsigned number);
/* out = each index[i] with a[i] != b[i]; with index NULL, each such i. Returns how many. */
PLOVER_API int64_t plover_compare(const uint64_t *a, const uint64_t *b, const uint32_t *index, size_t n, uint32_t *out);
/* out = the pages of index[0..n) that are not all zero bytes; returns how many, or -ERANGE. */
PLOVER_API int64_t plover_nonzero(const void *base, size_t pages, const uint32_t *index, size_t n, uint32_t *out);
/* Copy pages out, one after the other. 0 or -ERANGE. */
PLOVER_API int plover_gather(const void *base, size_t pages, const uint32_t *index, size_t n, void *out);
/* Overwrite pages; all indexes are checked before the first byte is written. 0 or -ERANGE. */
PLOVER_API int plover_apply(void *base, size_t pages, const uint32_t *index, size_t n, const void *data);

/* out[i * PLOVER_BLOCKS + k] = 16-bit hash of block k of page index[i]. Equal blocks have equal hashes; so does one in 65536
 * pairs of different blocks. 0 or -ERANGE. */
PLOVER_API int plover_block_hashes(plover_pool *pool, const void *base, size_t pages, const uint32_t *index, size_t n,
                                   uint16_t *out);
/* masks[i] = the blocks of page index[i] whose hashes differ from `theirs`, which is in plover_block_hashes' order.
 * 0 or -ERANGE. */
PLOVER_API int plover_block_masks(plover_pool *pool, const void *base, size_t pages, const uint32_t *index, size_t n,
                                  const uint16_t *theirs, uint64_t *masks);
/* Number of blocks in n masks. */
PLOVER_API int64_t plover_count_blocks(const uint64_t *masks, size_t n);
/* Copy the blocks in the masks out, one after the other; `blocks` must be their number. 0 or -ERANGE. */
PLOVER_API int plover_gather_blocks(const void *base, size_t pages, const uint32_t *index, size_t n, const uint64_t *masks,
                                    void *out, size_t blocks);
/* out = copies of the pages, in which the blocks in the masks are replaced by the `blocks` blocks in `data`. The pages
 * themselves do not change. 0, or -ERANGE before the first byte is written. */
PLOVER_API int plover_patch_pages(const void *base, size_t pages, const uint32_t *index, size_t n, const uint64_t *masks,
                                  const void *data, size_t blocks, void *out);

/* Wait until process `pid` is idle. It is idle when, in `looks` looks in a row, `every_ns` apart, it took at most `share_max`
 * of one CPU, it had read all bytes written to `socket` (-1: no socket), and `*disturbed` did not change (another thread
 * increments that when it writes); and when none of its threads wants a CPU after the last look. 1: it is idle, or has ended;
 * 0: not idle within limit_ns; or -EINVAL. */
PLOVER_API int plover_wait_idle(int pid, int socket, const volatile uint32_t *disturbed, unsigned looks, int64_t every_ns,
                                double share_max, int64_t limit_ns);

/* Dirty tracking of a range of another process (QEMU's guest RAM).
 * backend: "uffd-wp"    asynchronous userfaultfd write protection + PAGEMAP_SCAN (Linux >= 6.7). uffd must be a
 *                       descriptor that the process itself opened (the preload library does). The tracker closes it; if
 *                       opening fails, it stays the caller's
 *          "soft-dirty" /proc/PID/clear_refs and pagemap bit 55 (CONFIG_MEM_SOFT_DIRTY). When the kernel reclaims a page of
 *                       shared memory, it drops the bit. So `base` is locked in memory (mlock) until the tracker is closed
 *          "scan"       hashes of all pages at `base`
 * address: start of the range in the process, page-aligned. base: our own mapping of the same memory. All pages count as
 * clean after opening. On failure returns a negative errno and writes a sentence with a remedy to err; after -EINVAL or -ENOMEM
 * err may be empty. Never opens another back end instead. */
PLOVER_API int plover_tracker_open(const char *backend, int pid, uint64_t address, const void *base, size_t pages,
                                   int uffd, plover_pool *pool, plover_tracker **out, char *err, size_t errlen);
/* OR the pages written since the last fetch into bitmap, and count them as clean again. The process may write meanwhile: a page
 * that it writes after the call began is reported by this call or by the next one, with every back end.
 * Returns the number of reported pages, or a negative errno. words must be (pages + 63) / 64.
 *
 * "soft-dirty" cannot read and clear in one step, so this call clears nothing. It reports each page that was written since the
 * last plover_tracker_fetch_stopped, except those that still have the content of their last plover_tracker_synced. */
PLOVER_API int64_t plover_tracker_fetch(plover_tracker *tracker, uint64_t *bitmap, size_t words);
/* The same for a stopped process: it must not write from before this call until it has returned. */
PLOVER_API int64_t plover_tracker_fetch_stopped(plover_tracker *tracker, uint64_t *bitmap, size_t words);
/* Both hosts now hold `data` (NULL: zeros) in these n pages, because it was sent or applied. It is their clean content.
 * "scan" compares contents, and a page may return to its content at the last fetch, so it needs this call. "soft-dirty" needs
 * it from a plover_tracker_fetch until the next plover_tracker_fetch_stopped. At other times, and with "uffd-wp", the call does
 * nothing. 0 or a negative errno. */
PLOVER_API int plover_tracker_synced(plover_tracker *tracker, const uint32_t *index, size_t n, const void *data);
PLOVER_API void plover_tracker_close(plover_tracker *tracker);

/* Output that both VMs have said. What a frame, a flow and a saying are, and what agrees, is told by protocol/segments.py,
 * protocol/sayings.py and core/agreement.py, which give the same results. A run of frames is frames one after the other, each
 * behind its length (32 bits, big-endian). One thread at a time may use an agreement. */
#define PLOVER_FLOWS_MAX (1u << 20)
#define PLOVER_DIFFERENCES 3 /* kinds: the payload; whether the stream ends; the sequence number */

/* What the secondary's VM has said with this run: sayings of 32 bytes each. Returns how many bytes they take. -EINVAL: the run ends
 * within a frame; -ENOBUFS: `capacity`, in bytes, is less than 32 for each frame; -ENOMEM. */
PLOVER_API int64_t plover_sayings(const void *run, size_t bytes, void *out, size_t capacity);

/* flows_max: as many flows of TCP, and as many others; output of more waits for syncvms. ahead_max: sayings that the leader's VM
 * has not said yet. NULL: flows_max is 0 or more than PLOVER_FLOWS_MAX, or no memory. */
PLOVER_API plover_agreement *plover_agreement_new(size_t flows_max, size_t ahead_max);
PLOVER_API void plover_agreement_free(plover_agreement *agreement);
/* The leader's VM stands still for a syncvm. Nothing may leave before plover_agreement_open. */
PLOVER_API void plover_agreement_begin(plover_agreement *agreement);
/* Nothing is agreed on before the next syncvm, and what was acknowledged is forgotten, too. */
PLOVER_API void plover_agreement_void(plover_agreement *agreement);
/* The secondary has (or has not) staged that syncvm. */
PLOVER_API void plover_agreement_open(plover_agreement *agreement, int open);
/* The leader's VM has said the n frames of the run. numbers[i] names frame i; 0: nobody keeps it. why[i]: 0, or why it must wait
 * for a syncvm: 1 it begins or resets a connection; 2 something is sent again, or missing before it; 3 it cannot be compared;
 * 4 another frame of its flow must wait. 0, or -EINVAL before anything has changed: there are not n whole frames. */
PLOVER_API int plover_agreement_hold(plover_agreement *agreement, const uint64_t *numbers, size_t n, const void *run, size_t bytes,
                                     uint8_t *why);
/* The secondary's VM has said so. 0, or -EBADMSG before anything has changed: these are no sayings. */
PLOVER_API int plover_agreement_hear(plover_agreement *agreement, const void *sayings, size_t bytes);
/* Returns how many frames may leave now. *numbers: which, in order as far as they are of one flow; valid until the next call.
 * differ: how many differences of each kind were found since the last plover_agreement_begin. */
PLOVER_API int64_t plover_agreement_leaving(plover_agreement *agreement, const uint64_t **numbers, uint32_t *differ);

/* Two connected stream sockets, coupled by a thread: what comes in at one goes out at the other, in both directions, until both ends
 * have ended, or one is broken, or closing_ms after the first one has ended. At most 256 KiB are under way in each direction; the
 * `first` bytes, as many at most, go to the first socket before all else. Once all is over, 1 is written to `told`, an eventfd of the
 * caller's.
 * key: NULL, or PLOVER_COUPLE_KEY secret bytes that the other end of the first socket knows, too. That socket then speaks TLS 1.3 by
 * this key, and whoever does not know it breaks the couple; one end `dials`.
 * On success the sockets are the couple's, else the caller's still. 0, -EINVAL, -ENOMEM, -EAGAIN (no thread), another negative errno
 * of eventfd(2), or -EOPNOTSUPP: a key, and plover_couple_can_tls() is 0, as there is no libssl.so.3 that can do it. */
#define PLOVER_COUPLE_KEY 32u
PLOVER_API int plover_couple_can_tls(void);
PLOVER_API int plover_couple_new(int one, int other, const void *key, int dials, const void *first, size_t first_bytes, int told,
                                 unsigned closing_ms, plover_couple **out);
/* Read nothing from the first socket (side 0) or the second one (1) from now on, but for what it has sent before; or go on.
 * 0, or -EINVAL. */
PLOVER_API int plover_couple_hold(plover_couple *couple, int side, int held);
/* At once: what is under way is lost. Both sockets are closed. */
PLOVER_API void plover_couple_free(plover_couple *couple);

#endif
