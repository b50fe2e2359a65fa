/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Plover over RDMA: rings of frames in registered memory, and reliable connections that write them. A library of its own, so
 * that a host without libibverbs needs none. This header is the specification.
 *
 * A ring is memory that one sender writes and one receiver reads, both by position: a count of bytes since the ring began,
 * which only grows; its place is position % bytes. Frames lie at multiples of 64 bytes and never go round the end:
 *
 *   position u64 | ring u64 | length u32 | kind u32 | payload, padded to 8 | check u64
 *
 * all native order, written as one RDMA WRITE. A ring begins at position `bytes`, so fresh memory holds no frame. `check` is the CityHash64 of all before it, so a frame counts when all of it is
 * there, in whatever order the bytes land, and nothing that was left from an earlier round or an earlier ring is taken for
 * one. The paper's validity word (and APUS's) is the last byte of an entry, which relies on the card's order.
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

/* Put a frame of `length` bytes at `*head` into the sender's copy of a ring, of which the receiver has read up to `tail`.
 * ranges[0..2): what is to be written to the receiver's, at the same offsets. Returns how many there are (a frame that would
 * go round the end is preceded by a filler), -EAGAIN if there is no room, -EMSGSIZE if there never is. `*head` moves on. */
PLOVER_RDMA_API int plover_ring_put(void *ring, size_t bytes, uint64_t id, uint64_t tail, uint64_t *head, const void *data,
                                    size_t length, plover_range ranges[2]);
/* The same for `length` bytes that are not copied here but written from where they are, to `*payload`, and before the ranges:
 * a raw frame, whose check is of its head alone and stands behind it. It counts once its head is there, as a connection's
 * writes land in order; whether its bytes are the right ones, who reads them must see to (a syncvm's digest). */
PLOVER_RDMA_API int plover_ring_put_raw(void *ring, size_t bytes, uint64_t id, uint64_t tail, uint64_t *head, size_t length,
                                        uint64_t *payload, plover_range ranges[2]);
/* The frame at `*position`, if it is whole: 1, or 2 if it is a raw one, and where its payload lies, `*position` behind it.
 * 0: not yet. */
PLOVER_RDMA_API int plover_ring_next(const void *ring, size_t bytes, uint64_t id, uint64_t *position, plover_range *payload);
/* Wait until a frame is at `position`: first by looking for spin_ns without a pause, then less and less often, with pauses of
 * up to pause_ns. 1: there is one; 0: none within limit_ns, or *stop is not 0. */
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
    uint32_t timeout, retry; /* of the card: 4.096 us * 2^timeout, then again, `retry` times (rxe takes 7 for ever) */
    uint32_t hop_limit, traffic_class;
} plover_patience;

typedef struct {
    uint64_t number; /* as it was posted */
    uint32_t status, vendor; /* enum ibv_wc_status; 0: success */
} plover_completion;

typedef struct { uint64_t address; uint32_t length, lkey; } plover_segment;

PLOVER_RDMA_API int plover_card_open(const char *device, unsigned port, unsigned gid_index, unsigned mtu_max,
                                     plover_card **out, char *err, size_t errlen);
PLOVER_RDMA_API void plover_card_close(plover_card *card);
/* 1 if the card can register memory that is not pinned (for a connection's reads and writes). */
PLOVER_RDMA_API int plover_card_on_demand(const plover_card *card);

PLOVER_RDMA_API int plover_region_new(plover_card *card, void *address, size_t length, int access, plover_region **out,
                                      plover_memory *memory, char *err, size_t errlen);
PLOVER_RDMA_API void plover_region_free(plover_region *region);

/* Of up to `depth` requests under way. The peer may do what `access` says in regions that allow it. `own`: for the peer. */
PLOVER_RDMA_API int plover_qp_new(plover_card *card, unsigned depth, plover_qp **out, plover_address *own, char *err,
                                  size_t errlen);
/* Ready to be written and read by the peer, and to write and read there. */
PLOVER_RDMA_API int plover_qp_connect(plover_qp *qp, const plover_address *peer, int access, const plover_patience *patience,
                                      char *err, size_t errlen);
/* Nothing the peer sends lands any more once this has returned. 0 or a negative errno. */
PLOVER_RDMA_API int plover_qp_revoke(plover_qp *qp);
/* enum ibv_qp_state, as the card says. */
PLOVER_RDMA_API int plover_qp_state(plover_qp *qp);
PLOVER_RDMA_API void plover_qp_free(plover_qp *qp);

/* One RDMA WRITE of n segments, one after the other, to `remote` at the peer. It is told of as `number`. -EAGAIN: `depth`
 * requests are under way. */
PLOVER_RDMA_API int plover_qp_write(plover_qp *qp, const plover_segment *segments, unsigned n, uint64_t remote, uint32_t rkey,
                                    uint64_t number);
PLOVER_RDMA_API int plover_qp_read(plover_qp *qp, const plover_segment *into, uint64_t remote, uint32_t rkey, uint64_t number);
/* Completions, oldest first; returns how many. Looks for up to spin_ns for the first. */
PLOVER_RDMA_API int plover_qp_poll(plover_qp *qp, plover_completion *out, unsigned max, int64_t spin_ns);
/* A descriptor that becomes readable with the next completion after plover_qp_arm(), which also takes back what it told. */
PLOVER_RDMA_API int plover_qp_fd(const plover_qp *qp);
PLOVER_RDMA_API int plover_qp_arm(plover_qp *qp);
/* The name of a completion's status. */
PLOVER_RDMA_API const char *plover_status_name(uint32_t status);

/* Put a frame into our copy `mine` of the peer's ring `theirs` and write it there. It is told of as `number`, a filler as 0.
 * 0, or a negative errno, as plover_ring_put and plover_qp_write. */
PLOVER_RDMA_API int plover_qp_frame(plover_qp *qp, const plover_memory *mine, const plover_memory *theirs, uint64_t id,
                                    uint64_t tail, uint64_t *head, const void *data, size_t length, uint64_t number);
/* The same with n pages of 4096 bytes of `guest`, which the card itself reads: pages index[0..n), one after the other, in a raw
 * frame. They must stay as they are until it is told of. -ERANGE: a page outside. */
PLOVER_RDMA_API int plover_qp_pages(plover_qp *qp, const plover_memory *mine, const plover_memory *theirs, uint64_t id,
                                    uint64_t tail, uint64_t *head, const plover_memory *guest, const uint32_t *index,
                                    size_t n, uint64_t number);

#endif
