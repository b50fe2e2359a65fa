/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Two sockets coupled by a thread of their own. A request of a disk goes through two of these threads and its answer through both
 * again, so what counts is how soon each one is awake and how little it then does. */
#define _GNU_SOURCE
#include "couple/tls.h"
#include "plover_native.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HELD_BYTES = 256 << 10, STACK_BYTES = 256 << 10 };
enum { NOTHING, MOVED, BROKEN };

struct side {
    int fd;
    tls *tls;
    int readable;                  /* it may be: look */
    short to_be_read, to_be_written; /* what poll(2) is to wait for; TLS may have to write before it can read, and the reverse */
};

/* One direction. While it holds anything, nothing is read, so each side goes as fast as the other one takes. */
struct way {
    struct side *from, *to;
    uint8_t *data;
    size_t start, end;
    int ended, told; /* its source has; its target knows */
    atomic_int held; /* nothing is read */
};

struct plover_couple {
    struct side sides[2];
    struct way ways[2];
    int wake, told;
    atomic_int stop;
    unsigned closing_ms;
    int64_t deadline_ms; /* 0: both ways are open */
    pthread_t thread;
};

static int64_t now_ms(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * 1000 + at.tv_nsec / 1000000;
}

static short waits(ssize_t rc, short before) { return rc == TLS_IN ? POLLIN : rc == TLS_OUT ? POLLOUT : before; }

/* As tls_read. */
static ssize_t side_read(struct side *side, void *into, size_t bytes)
{
    if (side->tls) {
        ssize_t got = tls_read(side->tls, into, bytes);
        side->readable = got > 0 && tls_holds(side->tls);
        side->to_be_read = waits(got, POLLIN);
        return got;
    }
    ssize_t got = recv(side->fd, into, bytes, MSG_DONTWAIT);
    side->readable = got == (ssize_t)bytes;
    return got >= 0 ? got : errno == EAGAIN || errno == EINTR ? TLS_IN : TLS_BROKEN;
}

static ssize_t side_write(struct side *side, const void *from, size_t bytes)
{
    if (side->tls) {
        ssize_t put = tls_write(side->tls, from, bytes);
        side->to_be_written = waits(put, POLLOUT);
        return put;
    }
    ssize_t put = send(side->fd, from, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    return put >= 0 ? put : errno == EAGAIN || errno == EINTR ? TLS_OUT : TLS_BROKEN;
}

/* Tell the other end that this is all. 1: it is told. */
static ssize_t side_end(struct side *side)
{
    if (side->tls) {
        ssize_t rc = tls_end(side->tls);
        side->to_be_written = waits(rc, POLLOUT);
        return rc;
    }
    return shutdown(side->fd, SHUT_WR) && errno != ENOTCONN ? TLS_BROKEN : 1;
}

static int step(struct way *way)
{
    int out = NOTHING;
    ssize_t rc;
    if (way->start == way->end && !way->ended && !atomic_load(&way->held) && way->from->readable) {
        rc = side_read(way->from, way->data, HELD_BYTES);
        if (rc == TLS_BROKEN) return BROKEN;
        if (rc == TLS_END) way->ended = 1;
        if (rc >= 0) out = MOVED;
        way->start = 0, way->end = rc > 0 ? (size_t)rc : 0;
    }
    if (way->start < way->end) {
        rc = side_write(way->to, way->data + way->start, way->end - way->start);
        if (rc == TLS_BROKEN) return BROKEN;
        if (rc > 0) way->start += (size_t)rc, out = MOVED;
    }
    if (way->start == way->end && way->ended && !way->told) {
        rc = side_end(way->to);
        if (rc == TLS_BROKEN) return BROKEN;
        if (rc == 1) way->told = 1, out = MOVED;
    }
    return out;
}

/* Move what can be moved. 0: it is over. */
static int work(plover_couple *of)
{
    int one, other;
    do {
        if ((one = step(&of->ways[0])) == BROKEN || (other = step(&of->ways[1])) == BROKEN) return 0;
    } while (one == MOVED || other == MOVED);
    if (!of->deadline_ms && (of->ways[0].ended || of->ways[1].ended)) of->deadline_ms = now_ms() + of->closing_ms;
    return !(of->ways[0].told && of->ways[1].told);
}

static struct pollfd poll_for(const struct side *side, struct way *from_it, const struct way *to_it)
{
    short events = 0;
    if (from_it->start == from_it->end && !from_it->ended && !atomic_load(&from_it->held)) events |= side->to_be_read;
    if (to_it->start < to_it->end || (to_it->ended && !to_it->told)) events |= side->to_be_written;
    return (struct pollfd){.fd = events ? side->fd : -1, .events = events}; /* its end would wake us again and again */
}

/* Sleep until there is work. 0: it is over. */
static int sleep_well(plover_couple *of)
{
    struct pollfd at[3] = {
        {.fd = of->wake, .events = POLLIN},
        poll_for(&of->sides[0], &of->ways[0], &of->ways[1]),
        poll_for(&of->sides[1], &of->ways[1], &of->ways[0]),
    };
    int64_t left_ms = of->deadline_ms ? of->deadline_ms - now_ms() : -1;
    if (of->deadline_ms && left_ms <= 0) return 0;
    if (poll(at, 3, (int)left_ms) < 0) return errno == EINTR;
    for (int n = 0; n < 2; n++)
        if (at[1 + n].revents) of->sides[n].readable = 1;
    eventfd_t times;
    if (at[0].revents) eventfd_read(of->wake, &times); /* before the look: who sets something wakes us afterwards */
    return !atomic_load(&of->stop);
}

static void *run(void *given)
{
    plover_couple *of = given;
    while (work(of) && sleep_well(of)) continue;
    for (int n = 0; n < 2; n++) shutdown(of->sides[n].fd, SHUT_RDWR); /* the other ends learn it now, not when they are closed */
    eventfd_write(of->told, 1);
    return NULL;
}

static int start(plover_couple *of)
{
    sigset_t all, before;
    pthread_attr_t how;
    sigfillset(&all);
    if (pthread_attr_init(&how)) return -ENOMEM;
    pthread_attr_setstacksize(&how, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the program's own threads; SIGPIPE of libssl for none */
    int rc = pthread_create(&of->thread, &how, run, of);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&how);
    return -rc;
}

static void release(plover_couple *of)
{
    tls_free(of->sides[0].tls);
    if (of->wake >= 0) close(of->wake);
    free(of->ways[0].data), free(of->ways[1].data);
    free(of);
}

int plover_couple_can_tls(void) { return tls_ready(); }

int plover_couple_new(int one, int other, const void *key, int dials, const void *first, size_t first_bytes, int told,
                      unsigned closing_ms, plover_couple **out)
{
    if (one < 0 || other < 0 || told < 0 || first_bytes > HELD_BYTES || !out) return -EINVAL;
    plover_couple *of = calloc(1, sizeof *of);
    if (!of) return -ENOMEM;
    for (int n = 0; n < 2; n++) {
        of->sides[n] = (struct side){.fd = n ? other : one, .readable = 1, .to_be_read = POLLIN, .to_be_written = POLLOUT};
        of->ways[n] = (struct way){.from = &of->sides[n], .to = &of->sides[!n], .data = malloc(HELD_BYTES)};
    }
    of->told = told, of->closing_ms = closing_ms, of->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = of->ways[0].data && of->ways[1].data ? 0 : -ENOMEM;
    if (!rc && of->wake < 0) rc = -errno;
    if (!rc && first_bytes) memcpy(of->ways[1].data, first, of->ways[1].end = first_bytes);
    if (!rc && key) rc = fcntl(one, F_SETFL, O_NONBLOCK) ? -errno : tls_new(one, key, dials, &of->sides[0].tls);
    if (!rc) rc = start(of);
    if (rc) release(of);
    else *out = of;
    return rc;
}

int plover_couple_hold(plover_couple *of, int side, int held)
{
    if (!of || side < 0 || side > 1) return -EINVAL;
    atomic_store(&of->ways[side].held, held);
    eventfd_write(of->wake, 1);
    return 0;
}

void plover_couple_free(plover_couple *of)
{
    if (!of) return;
    atomic_store(&of->stop, 1);
    eventfd_write(of->wake, 1);
    pthread_join(of->thread, NULL);
    close(of->sides[0].fd), close(of->sides[1].fd);
    release(of);
}
