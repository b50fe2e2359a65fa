/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "flow.h"

#include "blake2b.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM_MIN = 16, KEPT_ROOM_BYTES = 1 << 16 };

/* ---- queues ------------------------------------------------------------------------------------------------------- */
static int queue_reserve(queue *q, size_t more)
{
    if (q->first + q->count + more <= q->room) return 0;
    if (q->first && q->count + more <= q->room / 2 + ROOM_MIN / 2) { /* so that moving stays rare */
        memmove(q->items, queue_at(q, 0), q->count * q->item_bytes);
        q->first = 0;
        if (q->count + more <= q->room) return 0;
    }
    size_t room = q->room ? q->room : ROOM_MIN;
    while (room < q->first + q->count + more) room *= 2;
    uint8_t *items = realloc(q->items, room * q->item_bytes);
    if (!items) return -ENOMEM;
    q->items = items, q->room = room;
    return 0;
}

void *queue_add(queue *q)
{
    if (queue_reserve(q, 1)) return NULL;
    return queue_at(q, q->count++);
}

void queue_drop(queue *q, size_t n)
{
    q->first += n, q->count -= n;
    if (q->count) return;
    q->first = 0;
    if (q->room * q->item_bytes > KEPT_ROOM_BYTES) queue_end(q);
}

void queue_end(queue *q)
{
    free(q->items);
    *q = (queue){.item_bytes = q->item_bytes};
}

int leaving_reserve(leaving *out, size_t more)
{
    if (out->count + more <= out->room) return 0;
    const size_t room = 2 * (out->count + more);
    uint64_t *numbers = realloc(out->numbers, room * sizeof *numbers);
    if (!numbers) return -ENOMEM;
    out->numbers = numbers, out->room = room;
    return 0;
}

/* ---- TCP ---------------------------------------------------------------------------------------------------------- */
void flow_init(flow *f, uint64_t key)
{
    *f = (flow){.in_map.key = key, .ahead.item_bytes = sizeof(saying), .waiting.item_bytes = sizeof(waiting_segment), .said.item_bytes = 1};
}

void flow_end(flow *f)
{
    queue_end(&f->ahead);
    queue_end(&f->waiting);
    queue_end(&f->said);
}

void flow_block(flow *f)
{
    f->blocked = 1;
    queue_end(&f->ahead);
    queue_end(&f->said);
}

enum why flow_begins(flow *f)
{
    flow_block(f);
    queue_end(&f->waiting);
    f->has_acked = f->has_told = 0;
    return CONNECTION;
}

static int say(flow *f, const said *segment)
{
    static const uint8_t zero;
    const size_t bytes = segment->payload_bytes + segment->fin;
    if (!bytes) return 0;
    if (queue_reserve(&f->said, bytes)) return -ENOMEM;
    uint8_t *to = queue_at(&f->said, f->said.count);
    memcpy(to, segment->payload, segment->payload_bytes);
    if (segment->fin) to[segment->payload_bytes] = zero;
    f->said.count += bytes;
    return 0;
}

enum why flow_hold(flow *f, uint64_t number, const said *segment)
{
    if (!f->has_told || after(segment->acks, f->told) > 0) f->told = segment->acks, f->has_told = 1;
    if (f->blocked) return FOLLOWS;
    if (!f->has_agreed) f->agreed = segment->start, f->has_agreed = 1;
    if (after(segment->start, f->agreed) != (int64_t)f->said.count) {
        flow_block(f);
        return AGAIN;
    }
    waiting_segment *waiting = say(f, segment) ? NULL : queue_add(&f->waiting);
    if (!waiting) {
        flow_block(f);
        return FOLLOWS;
    }
    *waiting = (waiting_segment){number, segment->end, segment->acks, segment->fin};
    return NEED_NOT_WAIT;
}

void flow_hear(flow *f, const saying *told)
{
    if (!f->has_acked || after(told->acks, f->acked) > 0) f->acked = told->acks, f->has_acked = 1;
    if (told->start == told->end || f->blocked) return;
    saying *kept = queue_add(&f->ahead);
    if (kept)
        *kept = *told;
    else
        flow_block(f);
}

static int ends_at(const flow *f, uint32_t end)
{
    for (size_t i = 0; i < f->waiting.count; i++) {
        const waiting_segment *w = queue_at(&f->waiting, i);
        if (w->fin && w->end == end) return 1;
    }
    return 0;
}

static enum difference difference(const flow *f, const saying *told, size_t bytes)
{
    if (told->start != f->agreed) return DIFFERENT_PLACE;
    if ((told->kind == ENDS) != ends_at(f, told->end)) return DIFFERENT_END;
    return told->digest == digest_of(queue_at(&f->said, 0), bytes) ? SAME : DIFFERENT_BYTES;
}

enum difference flow_compare(flow *f)
{
    while (f->ahead.count && f->has_agreed) {
        const saying told = *(const saying *)queue_at(&f->ahead, 0);
        if (after(told.end, f->agreed) > 0) { /* else it was sent again */
            const size_t bytes = (size_t)after(told.end, told.start);
            if (told.start == f->agreed && bytes > f->said.count) return SAME; /* the leader's VM has not said all of it yet */
            const enum difference differs = difference(f, &told, bytes);
            if (differs) {
                flow_block(f);
                return differs;
            }
            queue_drop(&f->said, bytes);
            f->agreed = told.end;
        }
        queue_drop(&f->ahead, 1);
    }
    return SAME;
}

int flow_leaving(flow *f, leaving *out)
{
    if (!f->has_agreed || !f->has_acked) return 0;
    if (leaving_reserve(out, f->waiting.count)) return -ENOMEM;
    while (f->waiting.count) {
        const waiting_segment *w = queue_at(&f->waiting, 0);
        if (after(w->end, f->agreed) > 0 || after(w->acks, f->acked) > 0) break;
        out->numbers[out->count++] = w->number;
        queue_drop(&f->waiting, 1);
    }
    return 0;
}

/* ---- anything else ------------------------------------------------------------------------------------------------ */
void packets_init(packet_flow *f, uint64_t key)
{
    *f = (packet_flow){.in_map.key = key, .ahead.item_bytes = sizeof(uint64_t), .waiting.item_bytes = sizeof(waiting_packet)};
}

void packets_end(packet_flow *f)
{
    queue_end(&f->ahead);
    queue_end(&f->waiting);
}

void packets_block(packet_flow *f)
{
    f->blocked = 1;
    packets_end(f);
}

enum why packets_hold(packet_flow *f, uint64_t number, uint64_t digest)
{
    waiting_packet *waiting = f->blocked ? NULL : queue_add(&f->waiting);
    if (!waiting) {
        if (!f->blocked) packets_block(f);
        return FOLLOWS;
    }
    *waiting = (waiting_packet){number, digest};
    return NEED_NOT_WAIT;
}

void packets_hear(packet_flow *f, uint64_t digest)
{
    uint64_t *kept = f->blocked ? NULL : queue_add(&f->ahead);
    if (kept)
        *kept = digest;
    else if (!f->blocked)
        packets_block(f);
}

int packets_leaving(packet_flow *f, leaving *out, enum difference *differs)
{
    if (leaving_reserve(out, f->waiting.count)) return -ENOMEM;
    *differs = SAME;
    while (f->ahead.count && f->waiting.count) {
        const waiting_packet *w = queue_at(&f->waiting, 0);
        if (*(const uint64_t *)queue_at(&f->ahead, 0) != w->digest) {
            packets_block(f);
            *differs = DIFFERENT_BYTES;
            return 0;
        }
        out->numbers[out->count++] = w->number;
        queue_drop(&f->ahead, 1);
        queue_drop(&f->waiting, 1);
    }
    return 0;
}
