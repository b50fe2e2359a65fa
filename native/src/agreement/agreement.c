/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The class Agreement of core/agreement.py is the reference; tests and the simulator hold the two against each other. */
#include "blake2b.h"
#include "flow.h"
#include "plover_native.h"

#include <errno.h>
#include <stdlib.h>

typedef struct { /* what the secondary's VM had acknowledged when it loaded the last syncvm */
    node in_map;
    uint32_t number;
} acked;

struct plover_agreement {
    size_t flows_max, ahead_max;
    size_t ahead; /* sayings that the leader's VM has not said yet */
    int open;
    ordered_map flows, packets, acked;
    flow *changed, **changed_end;
    packet_flow *packets_changed, **packets_changed_end;
    flow outsider; /* the flow that there is no room for, one at a time */
    uint32_t differ[PLOVER_DIFFERENCES];
    leaving out;
};

/* ---- maps --------------------------------------------------------------------------------------------------------- */
static void forget_acked(plover_agreement *a, node *n)
{
    if (!n) return;
    map_take(&a->acked, n);
    free(n);
}

static void forget(plover_agreement *a)
{
    for (node *n; (n = a->flows.first);) {
        map_take(&a->flows, n);
        flow_end((flow *)n);
        free(n);
    }
    for (node *n; (n = a->packets.first);) {
        map_take(&a->packets, n);
        packets_end((packet_flow *)n);
        free(n);
    }
    a->changed = NULL, a->changed_end = &a->changed;
    a->packets_changed = NULL, a->packets_changed_end = &a->packets_changed;
    a->open = 0, a->ahead = 0;
    for (int i = 0; i < PLOVER_DIFFERENCES; i++) a->differ[i] = 0;
}

static flow *new_flow(plover_agreement *a, uint64_t key)
{
    flow *f = a->flows.count < a->flows_max ? malloc(sizeof *f) : NULL;
    if (!f) { /* nobody keeps what it acknowledges from here on */
        forget_acked(a, map_find(&a->acked, key));
        flow_init(&a->outsider, key);
        flow_block(&a->outsider);
        return &a->outsider;
    }
    flow_init(f, key);
    const acked *before = (const acked *)map_find(&a->acked, key);
    if (before) f->acked = f->told = before->number, f->has_acked = f->has_told = 1;
    map_put(&a->flows, &f->in_map);
    return f;
}

/* The flow, which something happens to. */
static flow *flow_of(plover_agreement *a, uint64_t key)
{
    flow *f = (flow *)map_find(&a->flows, key);
    if (!f) f = new_flow(a, key);
    if (f != &a->outsider && !f->changed) {
        f->changed = 1, f->next_changed = NULL;
        *a->changed_end = f, a->changed_end = &f->next_changed;
    }
    return f;
}

/* The same of packets; NULL: there is no room. */
static packet_flow *packets_of(plover_agreement *a, uint64_t key)
{
    packet_flow *f = (packet_flow *)map_find(&a->packets, key);
    if (!f) {
        f = a->packets.count < a->flows_max ? malloc(sizeof *f) : NULL;
        if (!f) return NULL;
        packets_init(f, key);
        map_put(&a->packets, &f->in_map);
    }
    if (!f->changed) {
        f->changed = 1, f->next_changed = NULL;
        *a->packets_changed_end = f, a->packets_changed_end = &f->next_changed;
    }
    return f;
}

/* ---- a life ------------------------------------------------------------------------------------------------------- */
plover_agreement *plover_agreement_new(size_t flows_max, size_t ahead_max)
{
    plover_agreement *a = flows_max && flows_max <= PLOVER_FLOWS_MAX ? calloc(1, sizeof *a) : NULL;
    if (!a) return NULL;
    a->flows_max = flows_max, a->ahead_max = ahead_max;
    if (map_init(&a->flows, flows_max) || map_init(&a->packets, flows_max) || map_init(&a->acked, flows_max)) {
        plover_agreement_free(a);
        return NULL;
    }
    forget(a);
    return a;
}

void plover_agreement_free(plover_agreement *a)
{
    if (!a) return;
    plover_agreement_void(a);
    free(a->flows.slots);
    free(a->packets.slots);
    free(a->acked.slots);
    free(a->out.numbers);
    free(a);
}

void plover_agreement_begin(plover_agreement *a)
{
    for (const node *n = a->flows.first; n; n = n->behind) {
        const flow *f = (const flow *)n;
        forget_acked(a, map_find(&a->acked, n->key));
        acked *kept = f->has_told ? malloc(sizeof *kept) : NULL; /* without memory: its output waits until it is acknowledged anew */
        if (!kept) continue;
        *kept = (acked){.in_map.key = n->key, .number = f->told};
        map_put(&a->acked, &kept->in_map); /* flows that spoke last are kept longest */
    }
    while (a->acked.count > a->flows_max) forget_acked(a, a->acked.first);
    forget(a);
}

void plover_agreement_void(plover_agreement *a)
{
    forget(a);
    while (a->acked.first) forget_acked(a, a->acked.first);
}

void plover_agreement_open(plover_agreement *a, int open)
{
    a->open = open;
}

/* ---- what the leader's VM says ------------------------------------------------------------------------------------ */
static enum why hold_packet(plover_agreement *a, uint64_t number, const said *what)
{
    packet_flow *f = packets_of(a, digest_of(what->flow, what->flow_bytes));
    if (!f) return number ? UNKNOWN : NEED_NOT_WAIT;
    const size_t before = f->ahead.count;
    enum why why = NEED_NOT_WAIT;
    if (number)
        why = packets_hold(f, number, what->digest);
    else
        packets_block(f);
    a->ahead += f->ahead.count - before;
    return why;
}

/* number 0: nobody keeps it. */
static enum why hold(plover_agreement *a, uint64_t number, const said *what)
{
    if (what->kind == SAID_UNKNOWN) return UNKNOWN;
    if (what->kind == SAID_PACKET) return hold_packet(a, number, what);
    flow *f = flow_of(a, digest_of(what->flow, what->flow_bytes));
    const size_t before = f->ahead.count;
    const enum why why = number && what->kind == SAID_SEGMENT ? flow_hold(f, number, what) : flow_begins(f);
    a->ahead += f->ahead.count - before;
    return why;
}

int plover_agreement_hold(plover_agreement *a, const uint64_t *numbers, size_t n, const void *run, size_t bytes, uint8_t *why)
{
    size_t at = 0, length, frames = 0;
    while (next_frame(run, bytes, &at, &length)) frames++;
    if (at != bytes || frames != n) return -EINVAL;
    at = 0;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *frame = next_frame(run, bytes, &at, &length);
        const said what = said_of(frame, length);
        const enum why waits = hold(a, numbers[i], &what);
        why[i] = (uint8_t)(numbers[i] ? waits : NEED_NOT_WAIT);
    }
    return 0;
}

/* ---- what the secondary's VM says --------------------------------------------------------------------------------- */
static void hear_packet(plover_agreement *a, const saying *told)
{
    packet_flow *f = packets_of(a, told->flow);
    if (!f) return;
    const size_t before = f->ahead.count;
    if (a->ahead < a->ahead_max)
        packets_hear(f, told->digest);
    else
        packets_block(f);
    a->ahead += f->ahead.count - before;
}

static void hear(plover_agreement *a, const saying *told)
{
    if (told->kind == OTHER) {
        hear_packet(a, told);
        return;
    }
    flow *f = flow_of(a, told->flow);
    const size_t before = f->ahead.count;
    if (told->kind == BEGINS)
        flow_begins(f);
    else if (a->ahead < a->ahead_max)
        flow_hear(f, told);
    else
        flow_block(f);
    a->ahead += f->ahead.count - before;
}

int plover_agreement_hear(plover_agreement *a, const void *sayings, size_t bytes)
{
    saying told;
    if (bytes % SAYING_BYTES) return -EBADMSG;
    for (size_t at = 0; at < bytes; at += SAYING_BYTES)
        if (saying_read((const uint8_t *)sayings + at, &told)) return -EBADMSG;
    for (size_t at = 0; at < bytes; at += SAYING_BYTES) {
        saying_read((const uint8_t *)sayings + at, &told);
        hear(a, &told);
    }
    return 0;
}

/* ---- what both have said ------------------------------------------------------------------------------------------ */
static void differs(plover_agreement *a, enum difference what)
{
    if (what) a->differ[what - 1]++;
}

static void flows_leaving(plover_agreement *a)
{
    for (flow *f = a->changed; f; f = f->next_changed) {
        const size_t before = f->ahead.count;
        const enum difference difference = flow_compare(f);
        if (flow_leaving(f, &a->out)) flow_block(f);
        a->ahead += f->ahead.count - before;
        differs(a, difference);
        f->changed = 0;
    }
    a->changed = NULL, a->changed_end = &a->changed;
}

static int by_number(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void packets_leave(plover_agreement *a)
{
    const size_t first = a->out.count;
    for (packet_flow *f = a->packets_changed; f; f = f->next_changed) {
        const size_t before = f->ahead.count;
        enum difference difference = SAME;
        if (packets_leaving(f, &a->out, &difference)) packets_block(f);
        a->ahead += f->ahead.count - before;
        differs(a, difference);
        f->changed = 0;
    }
    a->packets_changed = NULL, a->packets_changed_end = &a->packets_changed;
    if (a->out.count > first) qsort(a->out.numbers + first, a->out.count - first, sizeof *a->out.numbers, by_number);
}

int64_t plover_agreement_leaving(plover_agreement *a, const uint64_t **numbers, uint32_t *differ)
{
    a->out.count = 0;
    if (a->open) {
        flows_leaving(a);
        packets_leave(a);
    }
    *numbers = a->out.numbers;
    for (int i = 0; i < PLOVER_DIFFERENCES; i++) differ[i] = a->differ[i];
    return (int64_t)a->out.count;
}
