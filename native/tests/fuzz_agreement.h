/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A part of fuzz_native.c: what two VMs say. */
#ifndef PLOVER_FUZZ_AGREEMENT_H
#define PLOVER_FUZZ_AGREEMENT_H

/* Frames that a guest chose: of a few flows, of ten bytes that mostly follow one another, some bytes changed. */
static uint8_t *frames(input *in, size_t count, size_t *bytes)
{
    uint8_t *out = malloc(count * 4 + count * 96 + 1), *at = out;
    for (size_t n = 0; n < count; n++) {
        uint8_t frame[96] = {0};
        const uint8_t kind = take(in), place = take(in) % 10, text = (uint8_t)(take(in) % 10), v6 = kind & 4, udp = kind & 8;
        const size_t header = v6 ? 54 : 34, whole = udp ? header + 8 + text : header + 20 + text;
        frame[12] = v6 ? 0x86 : 8, frame[13] = v6 ? 0xdd : 0;
        frame[14] = v6 ? 0x60 : 0x45, frame[v6 ? 20 : 23] = udp ? 17 : 6;
        frame[v6 ? 19 : 17] = (uint8_t)(v6 ? whole - header : whole - 14);
        uint8_t *tcp = frame + header;
        tcp[3] = kind & 3;
        if (!udp) {
            memset(tcp + 4, 0xff, 3), tcp[7] = (uint8_t)(0xfb + place); /* near the end of the sequence numbers */
            if (place > 4) memset(tcp + 4, 0, 3);
            tcp[11] = (uint8_t)(kind >> 5), tcp[12] = 0x50, tcp[13] = 0x10 | (kind & 16 && text > 7 ? text - 7 : 0);
        }
        for (size_t i = 0; i < text; i++) frame[whole - text + i] = (uint8_t)('a' + place + i);
        for (uint8_t n_changes = take(in); n_changes > 250; n_changes--) frame[take(in) % whole] ^= take(in);
        size_t length = take(in) > 252 ? take(in) % sizeof frame : whole;
        *at++ = 0, *at++ = 0, *at++ = 0, *at++ = (uint8_t)length;
        memcpy(at, frame, length), at += length;
    }
    *bytes = (size_t)(at - out);
    uint8_t *exact = malloc(*bytes + !*bytes);
    memcpy(exact, out, *bytes);
    free(out);
    return exact;
}

/* Both VMs say what the input has them say. Nothing leaves twice, or before the secondary has staged a syncvm, or unheld. */
static void fuzz_agreement(input *in)
{
    enum { FRAMES_MAX = 1024 };
    uint8_t left[FRAMES_MAX] = {0}, why[8];
    uint32_t differ[PLOVER_DIFFERENCES];
    uint64_t names[8], held = 0;
    const uint64_t *leaving;
    int open = 0;
    plover_agreement *a = plover_agreement_new(1 + take(in) % 4, take(in) % 16);
    while (in->left && held < FRAMES_MAX - 8) {
        const uint8_t what = take(in);
        const size_t count = what >> 5;
        size_t bytes;
        uint8_t *run = frames(in, what % 8 < 6 ? count : 0, &bytes);
        switch (what % 8) {
        case 0: case 1: case 2:
            for (size_t i = 0; i < count; i++) names[i] = take(in) > 245 ? 0 : ++held;
            PROMISE(plover_agreement_hold(a, names, count, run, bytes, why) == 0);
            break;
        case 3: case 4: case 5: {
            uint8_t *told = malloc(32 * count + 1);
            const int64_t n = plover_sayings(run, bytes, told, 32 * count);
            PROMISE(n >= 0 && n <= (int64_t)(32 * count) && plover_agreement_hear(a, told, (size_t)n) == 0);
            if (bytes) PROMISE(plover_sayings(run, bytes - 1, told, 32 * count) == -EINVAL);
            free(told);
            break;
        }
        case 6: {
            uint8_t *told = items(in, count, 32);
            if (count) told[0] = (uint8_t[]){1, 3, 4, 8}[take(in) % 4], told[1] = told[2] = told[3] = 0;
            plover_agreement_hear(a, told, 32 * count - (take(in) > 250));
            free(told);
            break;
        }
        default:
            open = take(in) & 1;
            if (take(in) & 1)
                plover_agreement_begin(a);
            else
                plover_agreement_void(a);
            if (open) plover_agreement_open(a, 1);
        }
        free(run);
        const int64_t n = plover_agreement_leaving(a, &leaving, differ);
        PROMISE(n >= 0 && (open || !n));
        for (int64_t i = 0; i < n; i++) {
            PROMISE(leaving[i] > 0 && leaving[i] <= held && !left[leaving[i]]);
            left[leaving[i]] = 1;
        }
    }
    plover_agreement_free(a);
}

#endif
