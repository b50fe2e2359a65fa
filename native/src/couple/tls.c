/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "couple/tls.h"
#include "plover_native.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Of openssl/ssl.h and openssl/tls1.h, whose numbers are part of libssl.so.3's ABI. */
enum {
    CTRL_MODE = 33,
    CTRL_SET_READ_AHEAD = 41,
    CTRL_SET_MIN_PROTO_VERSION = 123,
    MODE_ENABLE_PARTIAL_WRITE = 1,
    MODE_ACCEPT_MOVING_WRITE_BUFFER = 2,
    VERSION_1_3 = 0x0304,
    VERIFY_PEER = 1,
    ERROR_WANT_READ = 2,
    ERROR_WANT_WRITE = 3,
    ERROR_ZERO_RETURN = 6,
};
/* A PSK of this kind goes with SHA-256. No number of records is too much for this cipher (RFC 8446, 5.5). AES-GCM would need new keys in
 * mid-stream; while libssl cannot send its word about them, it does not read either, and two ends that do so wait for each other. */
#define SUITE "TLS_CHACHA20_POLY1305_SHA256"

static struct {
    const void *(*TLS_method)(void);
    void *(*SSL_CTX_new)(const void *);
    void (*SSL_CTX_free)(void *);
    long (*SSL_CTX_ctrl)(void *, int, long, void *);
    int (*SSL_CTX_set_ciphersuites)(void *, const char *);
    int (*SSL_CTX_set_num_tickets)(void *, size_t);
    void (*SSL_CTX_set_verify)(void *, int, void *);
    void (*SSL_CTX_set_psk_client_callback)(void *, unsigned (*)(void *, const char *, char *, unsigned, uint8_t *, unsigned));
    void (*SSL_CTX_set_psk_server_callback)(void *, unsigned (*)(void *, const char *, uint8_t *, unsigned));
    void *(*SSL_new)(void *);
    void (*SSL_free)(void *);
    int (*SSL_set_fd)(void *, int);
    int (*SSL_set_ex_data)(void *, int, void *);
    void *(*SSL_get_ex_data)(const void *, int);
    void (*SSL_set_connect_state)(void *);
    void (*SSL_set_accept_state)(void *);
    int (*SSL_do_handshake)(void *);
    int (*SSL_session_reused)(const void *);
    int (*SSL_read)(void *, void *, int);
    int (*SSL_write)(void *, const void *, int);
    int (*SSL_shutdown)(void *);
    int (*SSL_has_pending)(const void *);
    int (*SSL_get_error)(const void *, int);
    void (*ERR_clear_error)(void);
} lib;

static int loaded;

static void load(void)
{
#define NAMED(name) {#name, (void **)&lib.name}
    static const struct { const char *name; void **place; } NAMES[] = {
        NAMED(TLS_method), NAMED(SSL_CTX_new), NAMED(SSL_CTX_free), NAMED(SSL_CTX_ctrl), NAMED(SSL_CTX_set_ciphersuites),
        NAMED(SSL_CTX_set_num_tickets), NAMED(SSL_CTX_set_verify), NAMED(SSL_CTX_set_psk_client_callback),
        NAMED(SSL_CTX_set_psk_server_callback), NAMED(SSL_new), NAMED(SSL_free), NAMED(SSL_set_fd), NAMED(SSL_set_ex_data),
        NAMED(SSL_get_ex_data), NAMED(SSL_set_connect_state), NAMED(SSL_set_accept_state), NAMED(SSL_do_handshake),
        NAMED(SSL_session_reused), NAMED(SSL_read), NAMED(SSL_write), NAMED(SSL_shutdown), NAMED(SSL_has_pending),
        NAMED(SSL_get_error), NAMED(ERR_clear_error),
    };
#undef NAMED
    void *from = dlopen("libssl.so.3", RTLD_NOW | RTLD_LOCAL);
    if (!from) return;
    for (size_t n = 0; n < sizeof NAMES / sizeof *NAMES; n++)
        if (!(*NAMES[n].place = dlsym(from, NAMES[n].name))) return;
    loaded = 1;
}

int tls_ready(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    return loaded;
}

struct tls {
    void *context, *ssl;
    uint8_t key[PLOVER_COUPLE_KEY];
    int shaken;
};

static unsigned give_key(void *ssl, uint8_t *into, unsigned room)
{
    const tls *of = lib.SSL_get_ex_data(ssl, 0);
    if (!of || room < sizeof of->key) return 0;
    memcpy(into, of->key, sizeof of->key);
    return sizeof of->key;
}

static unsigned as_client(void *ssl, const char *hint, char *name, unsigned name_room, uint8_t *into, unsigned room)
{
    (void)hint;
    if (name_room < 2) return 0;
    memcpy(name, "1", 2); /* there is only one */
    return give_key(ssl, into, room);
}

static unsigned as_server(void *ssl, const char *name, uint8_t *into, unsigned room)
{
    (void)name;
    return give_key(ssl, into, room);
}

static int context_new(tls *of, int dials)
{
    void *context = of->context = lib.SSL_CTX_new(lib.TLS_method());
    if (!context) return -ENOMEM;
    if (!lib.SSL_CTX_ctrl(context, CTRL_SET_MIN_PROTO_VERSION, VERSION_1_3, NULL) || !lib.SSL_CTX_set_ciphersuites(context, SUITE))
        return -EOPNOTSUPP;
    lib.SSL_CTX_ctrl(context, CTRL_MODE, MODE_ENABLE_PARTIAL_WRITE | MODE_ACCEPT_MOVING_WRITE_BUFFER, NULL);
    lib.SSL_CTX_ctrl(context, CTRL_SET_READ_AHEAD, 1, NULL);
    lib.SSL_CTX_set_num_tickets(context, 0);
    if (dials) lib.SSL_CTX_set_verify(context, VERIFY_PEER, NULL); /* trusting nobody: a server with a certificate has not the key */
    lib.SSL_CTX_set_psk_client_callback(context, as_client);
    lib.SSL_CTX_set_psk_server_callback(context, as_server);
    return 0;
}

int tls_new(int fd, const uint8_t *key, int dials, tls **out)
{
    if (!tls_ready()) return -EOPNOTSUPP;
    tls *of = calloc(1, sizeof *of);
    if (!of) return -ENOMEM;
    memcpy(of->key, key, sizeof of->key);
    int rc = context_new(of, dials);
    if (!rc) {
        of->ssl = lib.SSL_new(of->context);
        rc = of->ssl && lib.SSL_set_fd(of->ssl, fd) && lib.SSL_set_ex_data(of->ssl, 0, of) ? 0 : -ENOMEM;
    }
    if (rc) {
        tls_free(of);
        return rc;
    }
    dials ? lib.SSL_set_connect_state(of->ssl) : lib.SSL_set_accept_state(of->ssl);
    *out = of;
    return 0;
}

void tls_free(tls *of)
{
    if (!of) return;
    if (of->ssl) lib.SSL_free(of->ssl);
    if (of->context) lib.SSL_CTX_free(of->context);
    explicit_bzero(of, sizeof *of);
    free(of);
}

/* What an operation that gave `rc`, which is not above 0, waits for. */
static ssize_t why(const tls *of, int rc)
{
    switch (lib.SSL_get_error(of->ssl, rc)) {
    case ERROR_WANT_READ: return TLS_IN;
    case ERROR_WANT_WRITE: return TLS_OUT;
    case ERROR_ZERO_RETURN: return TLS_END;
    default: return TLS_BROKEN;
    }
}

/* 1 once both ends have shown that they know the key. Before that nothing is sent. */
static ssize_t shake(tls *of)
{
    if (of->shaken) return 1;
    int rc = lib.SSL_do_handshake(of->ssl);
    if (rc <= 0) {
        ssize_t waits = why(of, rc);
        return waits == TLS_END ? TLS_BROKEN : waits;
    }
    if (!lib.SSL_session_reused(of->ssl)) return TLS_BROKEN; /* not by the key */
    explicit_bzero(of->key, sizeof of->key);
    return of->shaken = 1;
}

static int part(size_t bytes) { return bytes > 1 << 30 ? 1 << 30 : (int)bytes; }

ssize_t tls_read(tls *of, void *into, size_t bytes)
{
    lib.ERR_clear_error();
    ssize_t rc = shake(of);
    if (rc != 1) return rc;
    int got = lib.SSL_read(of->ssl, into, part(bytes));
    return got > 0 ? got : why(of, got);
}

ssize_t tls_write(tls *of, const void *from, size_t bytes)
{
    lib.ERR_clear_error();
    ssize_t rc = shake(of);
    if (rc != 1) return rc;
    int put = lib.SSL_write(of->ssl, from, part(bytes));
    if (put > 0) return put;
    ssize_t waits = why(of, put);
    return waits == TLS_END ? TLS_BROKEN : waits;
}

ssize_t tls_end(tls *of)
{
    lib.ERR_clear_error();
    ssize_t rc = shake(of);
    if (rc != 1) return rc;
    int told = lib.SSL_shutdown(of->ssl);
    return told >= 0 ? 1 : why(of, told);
}

int tls_holds(tls *of) { return lib.SSL_has_pending(of->ssl); }
