/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * LD_PRELOAD for QEMU 7.2 in its own COLO mode under TCG, which stops at its first checkpoint without it.
 *
 * The leader's migration thread sends the memory of a checkpoint (colo_do_checkpoint_transaction: qemu_savevm_live_state)
 * without QEMU's big lock. Reading the dirty bitmap there ends in tcg_log_global_after_sync: run_on_cpu, which takes it that
 * its caller holds the lock:
 * - Its pthread_cond_wait gives away a lock that the thread does not have, and gets it when it wakes. Nobody releases it
 *   again: the thread waits for itself in its next qemu_mutex_lock_iothread, and all others with it.
 * - Its kick of the vCPU (a broadcast) may come between the vCPU's look for work and its wait, and is lost then.
 * KVM has no such listener, so it is not seen there.
 *
 * Here a wait without its mutex repeats the thread's last broadcast, the kick, with the mutex held, so that it is not lost,
 * and returns without the mutex, as it was called: a spurious wakeup, and its caller looks at its flag (an atomic one)
 * and comes again. All other waits are glibc's. This happens once or a few times for each vCPU and checkpoint.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

typedef int wait_function(pthread_cond_t *, pthread_mutex_t *);
typedef int broadcast_function(pthread_cond_t *);

static wait_function *glibc_wait;
static broadcast_function *glibc_broadcast;
static __thread pthread_cond_t *last_broadcast;

__attribute__((constructor)) static void find_glibc(void)
{
    glibc_wait = (wait_function *)dlsym(RTLD_NEXT, "pthread_cond_wait");
    glibc_broadcast = (broadcast_function *)dlsym(RTLD_NEXT, "pthread_cond_broadcast");
    if (!glibc_wait || !glibc_broadcast)
        abort();
}

int pthread_cond_broadcast(pthread_cond_t *cond)
{
    last_broadcast = cond;
    return glibc_broadcast(cond);
}

int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    static __thread pid_t me;

    if (!me)
        me = gettid();
    if (mutex->__data.__owner == me) /* glibc notes the owner of every kind of mutex */
        return glibc_wait(cond, mutex);
    pthread_mutex_lock(mutex);
    if (last_broadcast)
        glibc_broadcast(last_broadcast);
    pthread_mutex_unlock(mutex);
    sched_yield();
    return 0;
}
