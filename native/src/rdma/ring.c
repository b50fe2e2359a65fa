/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Rings of frames; see plover_rdma.h. */
#include "plover_native.h"
#include "plover_rdma.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum { FRAME = 1, FILLER = 2, RAW = 3, RAW_HEAD = PLOVER_FRAME_ALIGN };

struct head {
    uint64_t position, ring;
    uint32_t length, kind;
};
_Static_assert(sizeof(struct head) == PLOVER_FRAME_HEAD, "as the header says");

uint32_t plover_rdma_abi_version(void)
{
    return PLOVER_RDMA_ABI;
}

/* Bytes of head and padded payload, which the check covers. */
static size_t checked(size_t length)
{
    return PLOVER_FRAME_HEAD + (length + 7) / 8 * 8;
}

static size_t whole(size_t length)
{
    return (checked(length) + 8 + PLOVER_FRAME_ALIGN - 1) / PLOVER_FRAME_ALIGN * PLOVER_FRAME_ALIGN;
}

static int valid_ring(size_t bytes)
{
    return bytes >= 2 * PLOVER_FRAME_ALIGN && bytes % PLOVER_FRAME_ALIGN == 0;
}

/* `told`: the length in the head. Differs from `length` only in a raw frame, whose payload is not written here. */
static void write_frame(uint8_t *at, uint64_t position, uint64_t id, uint32_t kind, const void *data, size_t length, size_t told)
{
    const struct head head = {position, id, (uint32_t)told, kind};
    memcpy(at, &head, sizeof head);
    if (length) memcpy(at + sizeof head, data, length);
    memset(at + sizeof head + length, 0, checked(length) - sizeof head - length);
    uint64_t check = plover_cityhash64(at, checked(length));
    memcpy(at + checked(length), &check, sizeof check);
}

/* Find room for a frame of `need` bytes, after a filler if it would wrap at the end. Its position, or a negative errno. */
static int64_t make_room(uint8_t *ring, size_t bytes, uint64_t id, uint64_t tail, uint64_t head, size_t need,
                         plover_range *filler)
{
    if (!valid_ring(bytes) || head % PLOVER_FRAME_ALIGN || tail > head || head - tail > bytes) return -EINVAL;
    if (need > bytes / 2) return -EMSGSIZE;
    const size_t offset = head % bytes, rest = bytes - offset;
    if (head - tail + need + (rest < need ? rest : 0) > bytes) return -EAGAIN;
    *filler = (plover_range){0, 0};
    if (rest >= need) return (int64_t)head;
    /* at least PLOVER_FRAME_ALIGN, so a filler's head and check fit */
    write_frame(ring + offset, head, id, FILLER, NULL, 0, 0);
    *filler = (plover_range){offset, checked(0) + 8};
    return (int64_t)(head + rest);
}

int plover_ring_put(void *ring, size_t bytes, uint64_t id, uint64_t tail, uint64_t *head, const void *data, size_t length,
                    plover_range ranges[2])
{
    if (length > PLOVER_FRAME_MAX) return -EMSGSIZE;
    const int64_t at = make_room(ring, bytes, id, tail, *head, whole(length), ranges);
    if (at < 0) return (int)at;
    const int n = ranges[0].length > 0;
    write_frame((uint8_t *)ring + (size_t)at % bytes, (uint64_t)at, id, FRAME, data, length, length);
    ranges[n] = (plover_range){(size_t)at % bytes, checked(length) + 8};
    *head = (uint64_t)at + whole(length);
    return n + 1;
}

static size_t whole_raw(size_t length)
{
    return RAW_HEAD + (length + PLOVER_FRAME_ALIGN - 1) / PLOVER_FRAME_ALIGN * PLOVER_FRAME_ALIGN;
}

int plover_ring_put_raw(void *ring, size_t bytes, uint64_t id, uint64_t tail, uint64_t *head, size_t length,
                        uint64_t *payload, plover_range ranges[2])
{
    if (length > PLOVER_FRAME_MAX) return -EMSGSIZE;
    const int64_t at = make_room(ring, bytes, id, tail, *head, whole_raw(length), ranges);
    if (at < 0) return (int)at;
    const int n = ranges[0].length > 0;
    write_frame((uint8_t *)ring + (size_t)at % bytes, (uint64_t)at, id, RAW, NULL, 0, length);
    ranges[n] = (plover_range){(size_t)at % bytes, checked(0) + 8};
    *payload = (size_t)at % bytes + RAW_HEAD;
    *head = (uint64_t)at + whole_raw(length);
    return n + 1;
}

/* The kind of the frame at `position`, or 0 if it is not complete. */
static uint32_t frame_at(const uint8_t *ring, size_t bytes, uint64_t id, uint64_t position, struct head *head)
{
    const size_t offset = position % bytes;
    uint64_t check;
    memcpy(head, ring + offset, sizeof *head);
    if (head->position != position || head->ring != id) return 0;
    if (head->kind == FILLER ? head->length != 0 : head->kind != FRAME && head->kind != RAW) return 0;
    const size_t need = head->kind == RAW ? whole_raw(head->length) : whole(head->length);
    if (head->length > PLOVER_FRAME_MAX || need > bytes - offset) return 0;
    const size_t covered = checked(head->kind == RAW ? 0 : head->length);
    memcpy(&check, ring + offset + covered, sizeof check);
    return check == plover_cityhash64(ring + offset, covered) ? head->kind : 0;
}

int plover_ring_next(const void *ring, size_t bytes, uint64_t id, uint64_t *position, plover_range *payload)
{
    struct head head;
    if (!valid_ring(bytes) || *position % PLOVER_FRAME_ALIGN) return -EINVAL;
    uint64_t at = *position;
    uint32_t kind = frame_at(ring, bytes, id, at, &head);
    if (kind == FILLER) {
        at += bytes - at % bytes;
        kind = frame_at(ring, bytes, id, at, &head);
    }
    if (kind != FRAME && kind != RAW) return 0;
    *payload = (plover_range){at % bytes + (kind == RAW ? (unsigned)RAW_HEAD : PLOVER_FRAME_HEAD), head.length};
    *position = at + (kind == RAW ? whole_raw(head.length) : whole(head.length));
    return kind == RAW ? 2 : 1;
}

static int64_t now_ns(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

int plover_ring_wait(const void *ring, size_t bytes, uint64_t id, uint64_t position, int64_t spin_ns, int64_t pause_ns,
                     int64_t limit_ns, const volatile uint32_t *stop)
{
    if (!valid_ring(bytes) || position % PLOVER_FRAME_ALIGN || pause_ns <= 0) return -EINVAL;
    /* Only the head is checked: it holds this position once a frame begins to land. */
    const volatile uint64_t *head = (const volatile uint64_t *)((const uint8_t *)ring + position % bytes);
    const int64_t began = now_ns();
    int64_t now = began, pause = 1000;
    while ((head[0] != position || head[1] != id) && !*stop) {
        now = now_ns();
        if (now - began >= limit_ns) return 0;
        if (now - began < spin_ns) continue;
        struct timespec rest = {pause / 1000000000, pause % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &rest, NULL);
        pause = pause * 3 / 2 < pause_ns ? pause * 3 / 2 : pause_ns;
    }
    return !*stop;
}
