/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * LD_PRELOAD for QEMU 7.2 in its own COLO mode under TCG, which stops at its first checkpoint without it.
 *
 * The leader's migration thread sends the memory of a checkpoint (colo_do_checkpoint_transaction: qemu_savevm_live_state)
 * without QEMU's big lock. Reading the dirty bitmap there ends in tcg_log_global_after_sync: run_on_cpu, whose
 * pthread_cond_wait takes it that the caller holds the lock. It gives away a lock that it does not have, gets it when it
 * wakes, and nobody releases it again: the thread waits for itself in its next qemu_mutex_lock_iothread, and all others
 * with it. KVM has no such listener, so it is not seen there.
 *
 * A wait without its mutex returns at once here, as a spurious wakeup may at any time; the caller looks at its condition
 * (an atomic flag) and comes again. Every other wait is glibc's. One such wait for each vCPU and checkpoint.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

typedef int wait_function(pthread_cond_t *, pthread_mutex_t *);

static wait_function *glibc_wait;

__attribute__((constructor)) static void find_glibc_wait(void)
{
    glibc_wait = (wait_function *)dlsym(RTLD_NEXT, "pthread_cond_wait");
    if (!glibc_wait)
        abort();
}

int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    static __thread pid_t me;

    if (!me)
        me = gettid();
    if (mutex->__data.__owner == me) /* glibc notes the owner of every kind of mutex */
        return glibc_wait(cond, mutex);
    sched_yield();
    return 0;
}
