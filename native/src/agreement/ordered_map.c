/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ordered_map.h"

#include <errno.h>
#include <stdlib.h>

/* Keys are digests already, so their low bits will do. */
static node **slot_of(const ordered_map *map, uint64_t key)
{
    return &map->slots[key & (map->slots_n - 1)];
}

int map_init(ordered_map *map, size_t nodes)
{
    *map = (ordered_map){.slots_n = 1};
    while (map->slots_n < nodes) map->slots_n *= 2;
    map->slots = calloc(map->slots_n, sizeof *map->slots);
    return map->slots ? 0 : -ENOMEM;
}

node *map_find(const ordered_map *map, uint64_t key)
{
    node *n = *slot_of(map, key);
    while (n && n->key != key) n = n->same_slot;
    return n;
}

void map_put(ordered_map *map, node *n)
{
    node **slot = slot_of(map, n->key);
    n->same_slot = *slot, *slot = n;
    n->before = map->last, n->behind = NULL;
    *(map->last ? &map->last->behind : &map->first) = n;
    map->last = n;
    map->count++;
}

void map_take(ordered_map *map, node *n)
{
    node **at = slot_of(map, n->key);
    while (*at != n) at = &(*at)->same_slot;
    *at = n->same_slot;
    *(n->before ? &n->before->behind : &map->first) = n->behind;
    *(n->behind ? &n->behind->before : &map->last) = n->before;
    map->count--;
}
