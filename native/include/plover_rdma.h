/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Plover over RDMA: rings of frames in registered memory, and reliable connections that write them. A separate library, so
 * that hosts without RDMA need no libibverbs. This header is the specification.
 *
 * A ring is memory that one sender writes and one receiver reads. Both use positions: a position counts bytes since the ring
 * began and only grows; it lies at offset position % bytes. Frames begin at multiples of 64 bytes and never wrap at the end:
 *
 *   position u64 | ring u64 | length u32 | kind u32 | payload, padded to 8 | check u64
 *
 * all in native order, written as one RDMA WRITE. A ring begins at position `bytes`, so fresh memory holds no frame. `check` is
 * the CityHash64 of everything before it. So a frame counts once all of it has landed, in whatever order its bytes land, and
 * bytes from an earlier round or an earlier ring are never taken for a frame. In the paper (and APUS) the last byte of an entry
 * shows that it is complete, which relies on the card writing in order.
 *
 * Functions return 0 or a positive result, or a negative errno; none aborts, none prints. Those with `err` write a sentence
 * with a remedy there.
 */
#ifndef PLOVER_RDMA_H
#define PLOVER_RDMA_H

#include <stddef.h>
#include <stdint.h>

#define PLOVER_RDMA_ABI 1u
#define PLOVER_RDMA_API __attribute__((visibility("default")))
#define PLOVER_FRAME_ALIGN 64u
#define PLOVER_FRAME_HEAD 24u
#define PLOVER_FRAME_MAX (64u << 20)
#define PLOVER_SEGMENTS_MAX 16u

PLOVER_RDMA_API uint32_t plover_rdma_abi_version(void);

/* ---- rings: plain memory, no card ------------------------------------------------------------------------------- */
typedef struct { uint64_t offset, length; } plover_range;

/* Put a frame of `length` bytes at `*head` into the sender's copy of ring `id`, which the receiver has read up to `tail`.
 * ranges[0..2): the bytes to write to the receiver's ring, at the same offsets. Returns the number of ranges (a filler comes
 * before a frame that would wrap at the end), -EAGAIN if there is no room now, -EMSGSIZE if there never will be. Advances
 * `*head`. */
PLOVER_RDMA_API int plover_ring_put(void *ring, size_t bytes, uint64_t id, uint64_t tail, uint64_t *head, const void *data,
                                    size_t length, plover_range ranges[2]);
/* The same for a raw frame: its `length` bytes are not copied here. The caller writes them from their own place to offset
 * `*payload` of the receiver's ring, before the ranges. The check of a raw frame covers only its head and comes directly after
 * it. The frame counts once its head has landed, because a connection's writes land in order. The reader must verify the payload
 * itself (a syncvm's digest does). */
PLOVER_RDMA_API int plover_ring_put_raw(void *ring, size_t bytes, uint64_t id, uint64_t tail, uint64_t *head, size_t length,
                                        uint64_t *payload, plover_range ranges[2]);
/* Read the frame at `*position`. Returns 1, or 2 for a raw frame, sets `payload` to its place and advances `*position` past the
 * frame. 0: it is not complete yet. */
PLOVER_RDMA_API int plover_ring_next(const void *ring, size_t bytes, uint64_t id, uint64_t *position, plover_range *payload);
/* Wait until the head of a frame is at `position`: poll for spin_ns without a pause, then less and less often, with pauses of up
 * to pause_ns. 1: a frame has begun to land; 0: none within limit_ns, or *stop is not 0. */
PLOVER_RDMA_API int plover_ring_wait(const void *ring, size_t bytes, uint64_t id, uint64_t position, int64_t spin_ns,
                                     int64_t pause_ns, int64_t limit_ns, const volatile uint32_t *stop);

/* ---- cards ------------------------------------------------------------------------------------------------------ */
typedef struct plover_card plover_card;     /* a device's port, and a protection domain */
typedef struct plover_region plover_region; /* registered memory */
typedef struct plover_qp plover_qp;         /* a reliable connection, with a completion queue of its own */

enum { PLOVER_REMOTE_WRITE = 1, PLOVER_REMOTE_READ = 2, PLOVER_ON_DEMAND = 4 };

typedef struct {
    uint64_t address, length;
    uint32_t lkey, rkey;
} plover_memory;

typedef struct {
    uint32_t qpn, psn, lid, mtu; /* mtu: bytes */
    uint8_t gid[16];
} plover_address;

typedef struct {
    uint32_t timeout, retry; /* the card waits 4.096 us * 2^timeout, then sends again, `retry` times (for rxe, 7 means for ever) */
    uint32_t hop_limit, traffic_class;
} plover_patience;

typedef struct {
    uint64_t number; /* of the request, as it was posted */
    uint32_t status, vendor; /* enum ibv_wc_status; 0: success */
} plover_completion;

typedef struct { uint64_t address; uint32_t length, lkey; } plover_segment;

/* mtu_max: largest packet in bytes; 0: the port's MTU. */
PLOVER_RDMA_API int plover_card_open(const char *device, unsigned port, unsigned gid_index, unsigned mtu_max,
                                     plover_card **out, char *err, size_t errlen);
PLOVER_RDMA_API void plover_card_close(plover_card *card);
/* 1 if the card can register memory without pinning it (for a connection's reads and writes). */
PLOVER_RDMA_API int plover_card_on_demand(const plover_card *card);

/* Register memory. access: what peers may do in it (PLOVER_REMOTE_...), and PLOVER_ON_DEMAND for not pinned. 0: only our own
 * requests use it. */
PLOVER_RDMA_API int plover_region_new(plover_card *card, void *address, size_t length, int access, plover_region **out,
                                      plover_memory *memory, char *err, size_t errlen);
PLOVER_RDMA_API void plover_region_free(plover_region *region);

/* A connection with up to `depth` requests under way. `own`: our address, for the peer. */
PLOVER_RDMA_API int plover_qp_new(plover_card *card, unsigned depth, plover_qp **out, plover_address *own, char *err,
                                  size_t errlen);
/* Connect to `peer`. access: what the peer may do here (PLOVER_REMOTE_...), in regions that also allow it. Then both ends can
 * write and read. */
PLOVER_RDMA_API int plover_qp_connect(plover_qp *qp, const plover_address *peer, int access, const plover_patience *patience,
                                      char *err, size_t errlen);
/* Once this has returned 0, no write of the peer lands any more. 0 or a negative errno. */
PLOVER_RDMA_API int plover_qp_revoke(plover_qp *qp);
/* The card's enum ibv_qp_state. */
PLOVER_RDMA_API int plover_qp_state(plover_qp *qp);
PLOVER_RDMA_API void plover_qp_free(plover_qp *qp);

/* One RDMA WRITE of n segments, one after the other, to address `remote` at the peer. Its completion has `number`. -EAGAIN:
 * `depth` requests are under way. */
PLOVER_RDMA_API int plover_qp_write(plover_qp *qp, const plover_segment *segments, unsigned n, uint64_t remote, uint32_t rkey,
                                    uint64_t number);
PLOVER_RDMA_API int plover_qp_read(plover_qp *qp, const plover_segment *into, uint64_t remote, uint32_t rkey, uint64_t number);
/* Completions, oldest first, at most `max` and 64; returns how many. Polls for up to spin_ns for the first. */
PLOVER_RDMA_API int plover_qp_poll(plover_qp *qp, plover_completion *out, unsigned max, int64_t spin_ns);
/* A descriptor that becomes readable at the next completion after plover_qp_arm(). plover_qp_arm() makes it unreadable again. */
PLOVER_RDMA_API int plover_qp_fd(const plover_qp *qp);
PLOVER_RDMA_API int plover_qp_arm(plover_qp *qp);
/* The name of a completion's status. */
PLOVER_RDMA_API const char *plover_status_name(uint32_t status);

/* Put a frame into `mine`, our copy of the peer's ring `theirs`, and write it there. Its completion has `number`, a filler's 0.
 * 0 or a negative errno, as plover_ring_put and plover_qp_write. */
PLOVER_RDMA_API int plover_qp_frame(plover_qp *qp, const plover_memory *mine, const plover_memory *theirs, uint64_t id,
                                    uint64_t tail, uint64_t *head, const void *data, size_t length, uint64_t number);
/* The same with n pages of 4096 bytes of `guest`, which the card itself reads: pages index[0..n), one after the other, in a raw
 * frame. They must not change until its completion. -ERANGE: a page outside `guest`. */
PLOVER_RDMA_API int plover_qp_pages(plover_qp *qp, const plover_memory *mine, const plover_memory *theirs, uint64_t id,
                                    uint64_t tail, uint64_t *head, const plover_memory *guest, const uint32_t *index,
                                    size_t n, uint64_t number);

#endif
