/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "segments.h"

#include "blake2b.h"

#include <string.h>

enum { ETHERNET = 14, IPV4_HEADER = 20, IPV6_HEADER = 40, TCP_HEADER = 20, PORTS = 4, IPV4 = 0x0800, IPV6 = 0x86dd, TCP = 6, UDP = 17 };
enum { FIN = 0x01, SYN = 0x02, RST = 0x04, ACK = 0x10, URG = 0x20, FRAGMENT = 0x3fff };

static inline unsigned word(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static inline uint32_t number(const uint8_t *p)
{
    return (uint32_t)word(p) << 16 | word(p + 2);
}

static void flow_add(said *out, const void *data, size_t n)
{
    memcpy(out->flow + out->flow_bytes, data, n);
    out->flow_bytes += (uint8_t)n;
}

/* options: the IP header has some. They may change the packet's way, and are not compared. */
static void tcp(said *out, const uint8_t *segment, size_t bytes, int options)
{
    if (bytes < TCP_HEADER) return;
    const size_t header = 4u * (segment[12] >> 4);
    const unsigned flags = segment[13];
    flow_add(out, segment, PORTS);
    out->kind = SAID_BREAK;
    if (options || header < TCP_HEADER || header > bytes || flags & (SYN | RST | URG) || !(flags & ACK)) return;
    out->kind = SAID_SEGMENT;
    out->fin = (flags & FIN) != 0;
    out->payload = segment + header;
    out->payload_bytes = bytes - header;
    out->start = number(segment + 4);
    out->end = out->start + (uint32_t)out->payload_bytes + out->fin;
    out->acks = number(segment + 8);
}

static void packet(said *out, uint8_t protocol, const uint8_t *payload, size_t bytes)
{
    flow_add(out, &protocol, 1);
    if (protocol == UDP) flow_add(out, payload, bytes < PORTS ? bytes : PORTS);
    out->kind = SAID_PACKET;
}

static void ipv4(said *out, const uint8_t *frame, size_t bytes)
{
    if (bytes < ETHERNET + IPV4_HEADER) return;
    const uint8_t *ip = frame + ETHERNET;
    const size_t header = 4u * (ip[0] & 15), total = word(ip + 2), end = ETHERNET + total;
    if (ip[0] >> 4 != 4 || header < IPV4_HEADER || header > total || end > bytes || word(ip + 6) & FRAGMENT) return;
    flow_add(out, ip + 12, 8);
    if (ip[9] == TCP) {
        tcp(out, ip + header, total - header, header > IPV4_HEADER);
        return;
    }
    packet(out, ip[9], ip + header, total - header);
    blake2b b; /* without id and checksum; what is behind `end` is padding */
    blake2b_begin(&b);
    blake2b_add(&b, frame, 18);
    blake2b_add(&b, frame + 20, 4);
    blake2b_add(&b, frame + 26, end - 26);
    out->digest = blake2b_end(&b);
}

static void ipv6(said *out, const uint8_t *frame, size_t bytes)
{
    if (bytes < ETHERNET + IPV6_HEADER) return;
    const uint8_t *ip = frame + ETHERNET;
    const size_t length = word(ip + 4), end = ETHERNET + IPV6_HEADER + length;
    if (ip[0] >> 4 != 6 || !length || end > bytes) return; /* no length: a jumbogram */
    flow_add(out, ip + 8, 32);
    if (ip[6] == TCP) {
        tcp(out, ip + IPV6_HEADER, length, 0);
        return;
    }
    packet(out, ip[6], ip + IPV6_HEADER, length);
    out->digest = digest_of(frame, end);
}

said said_of(const uint8_t *frame, size_t bytes)
{
    said out = {.kind = SAID_UNKNOWN};
    if (bytes < ETHERNET) return out;
    const unsigned kind = word(frame + 12);
    if (kind == IPV4) {
        ipv4(&out, frame, bytes);
    } else if (kind == IPV6) {
        ipv6(&out, frame, bytes);
    } else {
        flow_add(&out, frame, ETHERNET);
        out.kind = SAID_PACKET;
        out.digest = digest_of(frame, bytes);
    }
    return out;
}

const uint8_t *next_frame(const uint8_t *run, size_t bytes, size_t *at, size_t *frame_bytes)
{
    if (bytes - *at < FRAME_LENGTH_BYTES) return NULL;
    const size_t length = number(run + *at) & FRAME_LENGTH_MASK;
    if (length > bytes - *at - FRAME_LENGTH_BYTES) return NULL;
    const uint8_t *frame = run + *at + FRAME_LENGTH_BYTES;
    *at += FRAME_LENGTH_BYTES + length;
    *frame_bytes = length;
    return frame;
}
