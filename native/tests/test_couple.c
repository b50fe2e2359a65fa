/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tests of coupled sockets under the sanitizers; tests/unit/native/test_couple.py has the rest. */
#include "plover_native.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static int failed, passed;
#define CHECK(what) ((what) ? passed++ : (failed++, fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #what)))

enum { BYTES = 8 << 20, ONE_MS = 1000 };
static const uint8_t KEY[PLOVER_COUPLE_KEY] = "thirty-two bytes, known to both";

struct writer {
    int fd;
    const uint8_t *data;
};

static void *write_all(void *given)
{
    struct writer *of = given;
    for (size_t at = 0; at < BYTES;) {
        ssize_t put = write(of->fd, of->data + at, BYTES - at);
        if (put <= 0) break;
        at += (size_t)put;
    }
    return NULL;
}

static size_t read_all(int fd, uint8_t *into)
{
    size_t at = 0;
    for (ssize_t got; at < BYTES && (got = read(fd, into + at, BYTES - at)) > 0;) at += (size_t)got;
    return at;
}

/* Outer ends `ends`, two couples in between. */
static void chain(const void *key, const void *other_key, int ends[2], int told, plover_couple *couples[2])
{
    int left[2], inner[2], right[2];
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, left) && !socketpair(AF_UNIX, SOCK_STREAM, 0, inner));
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, right));
    CHECK(!plover_couple_new(inner[0], left[1], key, 1, NULL, 0, told, ONE_MS, &couples[0]));
    CHECK(!plover_couple_new(inner[1], right[1], other_key, 0, NULL, 0, told, ONE_MS, &couples[1]));
    ends[0] = left[0], ends[1] = right[0];
}

static void test_both_ways(const void *key)
{
    uint8_t *data = malloc(2 * BYTES), *got = malloc(BYTES);
    for (size_t i = 0; i < 2 * BYTES; i++) data[i] = (uint8_t)(i * 2654435761u >> 13);
    int ends[2], told = eventfd(0, EFD_CLOEXEC);
    plover_couple *couples[2];
    chain(key, key, ends, told, couples);
    struct writer writers[2] = {{ends[0], data}, {ends[1], data + BYTES}};
    pthread_t threads[2];
    for (int n = 0; n < 2; n++) CHECK(!pthread_create(&threads[n], NULL, write_all, &writers[n]));
    CHECK(read_all(ends[1], got) == BYTES && !memcmp(got, data, BYTES));
    CHECK(read_all(ends[0], got) == BYTES && !memcmp(got, data + BYTES, BYTES));
    for (int n = 0; n < 2; n++) pthread_join(threads[n], NULL);
    shutdown(ends[0], SHUT_WR), shutdown(ends[1], SHUT_WR);
    CHECK(read(ends[0], got, 1) == 0 && read(ends[1], got, 1) == 0);
    for (eventfd_t sum = 0, some; sum < 2; sum += some) CHECK(!eventfd_read(told, &some));
    for (int n = 0; n < 2; n++) plover_couple_free(couples[n]), close(ends[n]);
    close(told), free(data), free(got);
}

static void test_another_key(void)
{
    static const uint8_t OTHER[PLOVER_COUPLE_KEY];
    int ends[2], told = eventfd(0, EFD_CLOEXEC);
    char byte;
    plover_couple *couples[2];
    chain(KEY, OTHER, ends, told, couples);
    CHECK(write(ends[0], "x", 1) == 1 || errno == EPIPE); /* they may have found out already */
    CHECK(read(ends[1], &byte, 1) <= 0 && read(ends[0], &byte, 1) <= 0);
    for (int n = 0; n < 2; n++) plover_couple_free(couples[n]), close(ends[n]);
    close(told);
}

static void test_ended_in_the_middle(const void *key)
{
    for (int turn = 0; turn < 50; turn++) {
        int ends[2], told = eventfd(0, EFD_CLOEXEC);
        plover_couple *couples[2];
        chain(key, key, ends, told, couples);
        CHECK(write(ends[0], KEY, sizeof KEY) == sizeof KEY);
        usleep((unsigned)turn * 50);
        for (int n = 0; n < 2; n++) plover_couple_free(couples[n]), close(ends[n]);
        close(told);
    }
}

/* Held and let go again and again while bytes come: all arrive, in order, under the thread sanitizer as well. */
static void test_held(const void *key)
{
    uint8_t *data = malloc(BYTES), *got = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++) data[i] = (uint8_t)(i * 2654435761u >> 13);
    int ends[2], told = eventfd(0, EFD_CLOEXEC);
    plover_couple *couples[2];
    chain(key, key, ends, told, couples);
    struct writer writer = {ends[0], data};
    pthread_t thread;
    CHECK(!plover_couple_hold(couples[0], 1, 1) && !pthread_create(&thread, NULL, write_all, &writer));
    CHECK(recv(ends[1], got, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
    for (int turn = 0; turn < 51; turn++) CHECK(!plover_couple_hold(couples[0], 1, turn % 2)), usleep(100);
    CHECK(read_all(ends[1], got) == BYTES && !memcmp(got, data, BYTES));
    pthread_join(thread, NULL);
    CHECK(plover_couple_hold(couples[0], 2, 1) < 0 && plover_couple_hold(NULL, 0, 1) < 0);
    CHECK(!plover_couple_hold(couples[1], 0, 1)); /* it can be ended like this */
    for (int n = 0; n < 2; n++) plover_couple_free(couples[n]), close(ends[n]);
    close(told), free(data), free(got);
}

int main(void)
{
    plover_couple *none = NULL;
    signal(SIGPIPE, SIG_IGN);
    CHECK(plover_couple_can_tls());
    test_both_ways(NULL), test_both_ways(KEY);
    test_held(NULL), test_held(KEY);
    test_another_key();
    test_ended_in_the_middle(NULL), test_ended_in_the_middle(KEY);
    CHECK(plover_couple_new(-1, 0, NULL, 0, NULL, 0, 0, 0, &none) < 0 && plover_couple_new(0, 0, NULL, 0, KEY, BYTES, 0, 0, &none) < 0);
    plover_couple_free(none);
    printf("couple: %d passed, %d failed\n", passed, failed);
    return failed != 0;
}
