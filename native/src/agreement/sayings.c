/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "sayings.h"

#include "blake2b.h"
#include "plover_native.h"
#include "segments.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct { /* segments of one flow that follow one another */
    said last; /* the flow of all, and the acknowledgement and FIN of the last one */
    uint32_t start;
    size_t bytes;
    blake2b payload;
    int open;
} span;

typedef struct {
    span *spans; /* in the order in which they began */
    size_t count, room;
    uint32_t *slots; /* 1 + place of the last span of a flow; 0: free */
    size_t slots_n;
    uint8_t *out, *end;
} telling;

/* ---- the last span of each flow --------------------------------------------------------------------------------- */
static size_t slot_of(const telling *t, const said *flow)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < flow->flow_bytes; i++) hash = (hash ^ flow->flow[i]) * 0x100000001b3u;
    size_t at = (size_t)(hash ^ hash >> 32) & (t->slots_n - 1);
    for (; t->slots[at]; at = (at + 1) & (t->slots_n - 1)) {
        const said *other = &t->spans[t->slots[at] - 1].last;
        if (other->flow_bytes == flow->flow_bytes && !memcmp(other->flow, flow->flow, flow->flow_bytes)) break;
    }
    return at;
}

static int make_room(telling *t)
{
    if (t->count < t->room) return 0;
    const size_t room = t->room ? 2 * t->room : 32;
    span *spans = realloc(t->spans, room * sizeof *spans);
    if (!spans) return -ENOMEM;
    t->spans = spans, t->room = room;
    uint32_t *slots = calloc(4 * room, sizeof *slots);
    if (!slots) return -ENOMEM;
    free(t->slots);
    t->slots = slots, t->slots_n = 4 * room;
    for (size_t i = 0; i < t->count; i++) t->slots[slot_of(t, &t->spans[i].last)] = (uint32_t)i + 1; /* the last one stays */
    return 0;
}

/* ---- items -------------------------------------------------------------------------------------------------------- */
static void put(uint8_t **at, uint64_t value, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--) *(*at)++ = (uint8_t)(value >> 8 * i);
}

static int tell(telling *t, uint8_t kind, const uint32_t numbers[3], const said *flow, uint64_t digest)
{
    if (t->end - t->out < SAYING_BYTES) return -ENOBUFS;
    put(&t->out, (uint64_t)kind << 24, 4);
    for (int i = 0; i < 3; i++) put(&t->out, numbers[i], 4);
    put(&t->out, digest_of(flow->flow, flow->flow_bytes), 8);
    put(&t->out, digest, 8);
    return 0;
}

static int tell_span(telling *t, span *s)
{
    const uint32_t numbers[3] = {s->start, s->last.end, s->last.acks};
    s->open = 0;
    return tell(t, s->last.fin ? ENDS : SPAN, numbers, &s->last, blake2b_end(&s->payload));
}

/* ---- frames ------------------------------------------------------------------------------------------------------- */
static void extend(span *s, const said *segment)
{
    static const uint8_t zero;
    blake2b_add(&s->payload, segment->payload, segment->payload_bytes);
    if (segment->fin) blake2b_add(&s->payload, &zero, 1);
    s->bytes += segment->payload_bytes + segment->fin;
    s->last = *segment;
}

static void begin(span *s, const said *segment)
{
    s->start = segment->start, s->bytes = 0, s->open = 1;
    blake2b_begin(&s->payload);
    extend(s, segment);
}

static int follows(const span *s, const said *segment)
{
    return segment->start == s->last.end && !s->last.fin && s->bytes + segment->payload_bytes < SPAN_BYTES_MAX &&
           after(segment->acks, s->last.acks) >= 0;
}

static int hear_segment(telling *t, const said *segment)
{
    int rc = make_room(t);
    if (rc) return rc;
    const size_t slot = slot_of(t, segment);
    span *s = t->slots[slot] ? &t->spans[t->slots[slot] - 1] : NULL;
    if (s && s->open) {
        if (follows(s, segment)) {
            extend(s, segment);
            return 0;
        }
        rc = tell_span(t, s);
        begin(s, segment); /* in the same place */
        return rc;
    }
    begin(&t->spans[t->count++], segment);
    t->slots[slot] = (uint32_t)t->count;
    return 0;
}

static int hear_break(telling *t, const said *what)
{
    static const uint32_t none[3];
    if (t->count) {
        const size_t slot = slot_of(t, what);
        span *s = t->slots[slot] ? &t->spans[t->slots[slot] - 1] : NULL;
        const int rc = s && s->open ? tell_span(t, s) : 0;
        if (rc) return rc;
    }
    return tell(t, BEGINS, none, what, 0);
}

static int hear(telling *t, const said *what)
{
    static const uint32_t none[3];
    switch (what->kind) {
    case SAID_PACKET: return tell(t, OTHER, none, what, what->digest);
    case SAID_SEGMENT: return hear_segment(t, what);
    case SAID_BREAK: return hear_break(t, what);
    default: return 0;
    }
}

int64_t plover_sayings(const void *run, size_t bytes, void *out, size_t capacity)
{
    telling t = {.out = out, .end = (uint8_t *)out + capacity};
    size_t at = 0, length;
    const uint8_t *frame;
    int rc = 0;
    while (!rc && (frame = next_frame(run, bytes, &at, &length))) {
        const said what = said_of(frame, length);
        rc = hear(&t, &what);
    }
    if (!rc && at != bytes) rc = -EINVAL;
    for (size_t i = 0; !rc && i < t.count; i++)
        if (t.spans[i].open) rc = tell_span(&t, &t.spans[i]);
    free(t.spans);
    free(t.slots);
    return rc ? rc : t.out - (uint8_t *)out;
}

/* ---- reading ------------------------------------------------------------------------------------------------------ */
static uint64_t get(const uint8_t *from, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) value = value << 8 | from[i];
    return value;
}

int saying_read(const uint8_t *from, saying *out)
{
    *out = (saying){from[0], (uint32_t)get(from + 4, 4), (uint32_t)get(from + 8, 4), (uint32_t)get(from + 12, 4),
                    get(from + 16, 8), get(from + 24, 8)};
    if (from[1] | from[2] | from[3]) return -EBADMSG;
    const int32_t span_bytes = after(out->end, out->start);
    switch (out->kind) {
    case SPAN: return span_bytes >= 0 && span_bytes <= SPAN_BYTES_MAX + 1 ? 0 : -EBADMSG;
    case ENDS: return span_bytes >= 1 && span_bytes <= SPAN_BYTES_MAX + 1 ? 0 : -EBADMSG;
    case OTHER: return out->start | out->end | out->acks ? -EBADMSG : 0;
    case BEGINS: return out->start | out->end | out->acks || out->digest ? -EBADMSG : 0;
    default: return -EBADMSG;
    }
}
