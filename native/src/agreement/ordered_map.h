/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Nodes by a 64-bit key, in the order in which they were put in. The owner of a node has it begin with `node`. */
#ifndef PLOVER_ORDERED_MAP_H
#define PLOVER_ORDERED_MAP_H

#include <stddef.h>
#include <stdint.h>

typedef struct node {
    uint64_t key;
    struct node *same_slot, *before, *behind;
} node;

typedef struct {
    node **slots, *first, *last;
    size_t slots_n, count;
} ordered_map;

/* Room for about `nodes`. 0 or -ENOMEM. */
int map_init(ordered_map *map, size_t nodes);
node *map_find(const ordered_map *map, uint64_t key);
/* `n` has a key that is not in yet. It becomes the last. */
void map_put(ordered_map *map, node *n);
void map_take(ordered_map *map, node *n);

#endif
