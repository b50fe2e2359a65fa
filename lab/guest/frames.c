// SPDX-License-Identifier: GPL-3.0-or-later
// frames CARD COUNT HEX: sends one raw frame COUNT times. Static, for a guest without libraries (lab/attack/guest.py).
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_BYTES_MAX 9000
#define COUNT_MAX 100000

static int fail(const char *what) {
    perror(what);
    return 1;
}

int main(int argc, char **argv) {
    static unsigned char frame[FRAME_BYTES_MAX];
    if (argc != 4 || strlen(argv[3]) % 2 || strlen(argv[3]) > 2 * sizeof frame) {
        fprintf(stderr, "usage: frames CARD COUNT HEX\n");
        return 2;
    }
    size_t size = strlen(argv[3]) / 2;
    for (size_t n = 0; n < size; n++) {
        unsigned int octet;
        if (sscanf(argv[3] + 2 * n, "%2x", &octet) != 1) {
            fprintf(stderr, "frames: not hexadecimal\n");
            return 2;
        }
        frame[n] = (unsigned char)octet;
    }
    int sock = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    if (sock < 0) return fail("socket");
    struct sockaddr_ll card = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(argv[1])};
    if (bind(sock, (struct sockaddr *)&card, sizeof card)) return fail(argv[1]);
    int count = atoi(argv[2]);
    for (int n = 0; n < count && n < COUNT_MAX; n++)
        if (send(sock, frame, size, 0) < 0) return fail("send");
    return 0;
}
