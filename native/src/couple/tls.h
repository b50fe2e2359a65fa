/* SPDX-License-Identifier: GPL-3.0-or-later */
/* TLS 1.3 of one socket by libssl, which is loaded when it is first needed: Python has it, so each host does. Both ends know a key
 * (RFC 8446's external PSK, with an exchange of fresh keys), and nothing else proves who they are: no certificate is accepted. */
#ifndef PLOVER_COUPLE_TLS_H
#define PLOVER_COUPLE_TLS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct tls tls;

/* Is there a libssl that can do this? */
int tls_ready(void);

/* `fd` must be non-blocking and stays the caller's. 0, -ENOMEM, or -EOPNOTSUPP: there is no libssl, or one that cannot do this. */
int tls_new(int fd, const uint8_t *key, int dials, tls **out);
void tls_free(tls *of);

/* A number of bytes; or one of these. TLS_IN, TLS_OUT: again, once the socket can be read, or written. */
enum { TLS_END = 0, TLS_BROKEN = -1, TLS_IN = -2, TLS_OUT = -3 };
/* TLS_END: the other end has said that this is all. */
ssize_t tls_read(tls *of, void *into, size_t bytes);
ssize_t tls_write(tls *of, const void *from, size_t bytes);
/* We send no more. 1: the other end is told. */
ssize_t tls_end(tls *of);
/* May tls_read have something although the socket has not? */
int tls_holds(tls *of);

#endif
