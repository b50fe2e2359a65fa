/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Cards, registered memory and reliable connections over libibverbs; see plover_rdma.h. */
#include "plover_rdma.h"

#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { READS_MAX = 16, POLL_MAX = 64 };

struct plover_card {
    struct ibv_context *context;
    struct ibv_pd *pd;
    struct ibv_port_attr port;
    union ibv_gid gid;
    unsigned number, gid_index, mtu;
    int on_demand;
};

struct plover_region {
    struct ibv_mr *mr;
};

struct plover_qp {
    plover_card *card;
    struct ibv_comp_channel *channel;
    struct ibv_cq *cq;
    struct ibv_qp *qp;
    unsigned depth, under_way;
    uint32_t psn;
};

static int fail(char *err, size_t errlen, int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(err, errlen, format, arguments);
    va_end(arguments);
    return -(error ? error : EIO);
}

static int64_t now_ns(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

/* ---- cards ------------------------------------------------------------------------------------------------------ */
static struct ibv_context *open_device(const char *name)
{
    int n = 0;
    struct ibv_device **devices = ibv_get_device_list(&n);
    struct ibv_context *context = NULL;
    for (int i = 0; devices && i < n && !context; i++)
        if (!strcmp(ibv_get_device_name(devices[i]), name)) context = ibv_open_device(devices[i]);
    if (devices) ibv_free_device_list(devices);
    return context;
}

static unsigned mtu_bytes(enum ibv_mtu mtu)
{
    return 128u << mtu; /* IBV_MTU_256 is 1 */
}

static enum ibv_mtu mtu_of(unsigned bytes)
{
    enum ibv_mtu mtu = IBV_MTU_256;
    while (mtu < IBV_MTU_4096 && mtu_bytes(mtu + 1) <= bytes) mtu++;
    return mtu;
}

static int look_at_port(plover_card *card, const char *device, char *err, size_t errlen)
{
    struct ibv_device_attr_ex caps = {0};
    if (ibv_query_port(card->context, card->number, &card->port))
        return fail(err, errlen, ENODEV, "rdma_port: %s has no port %u", device, card->number);
    if (card->port.state != IBV_PORT_ACTIVE)
        return fail(err, errlen, ENETDOWN, "rdma_port: port %u of %s is %s; bring its link up", card->number, device,
                    ibv_port_state_str(card->port.state));
    if (ibv_query_gid(card->context, card->number, card->gid_index, &card->gid))
        return fail(err, errlen, EINVAL, "rdma_gid_index: %s has no GID %u", device, card->gid_index);
    if (!ibv_query_device_ex(card->context, NULL, &caps)) {
        const uint32_t need = IBV_ODP_SUPPORT_WRITE | IBV_ODP_SUPPORT_READ;
        card->on_demand = (caps.odp_caps.general_caps & IBV_ODP_SUPPORT) &&
                          (caps.odp_caps.per_transport_caps.rc_odp_caps & need) == need;
    }
    return 0;
}

int plover_card_open(const char *device, unsigned port, unsigned gid_index, unsigned mtu_max, plover_card **out, char *err,
                     size_t errlen)
{
    plover_card *card = calloc(1, sizeof *card);
    if (!card) return fail(err, errlen, ENOMEM, "no memory");
    card->number = port, card->gid_index = gid_index;
    card->context = open_device(device);
    int rc = card->context ? look_at_port(card, device, err, errlen)
                           : fail(err, errlen, ENODEV, "rdma_device: there is no RDMA device %s; see 'ploverctl rdma check'",
                                  device);
    if (!rc && !(card->pd = ibv_alloc_pd(card->context)))
        rc = fail(err, errlen, errno, "%s: no protection domain: %s", device, strerror(errno));
    if (rc) {
        plover_card_close(card);
        return rc;
    }
    const unsigned most = mtu_bytes(card->port.active_mtu);
    card->mtu = mtu_max && mtu_max < most ? mtu_bytes(mtu_of(mtu_max)) : most;
    /* Reading events must never block when there is none. */
    fcntl(card->context->async_fd, F_SETFL, fcntl(card->context->async_fd, F_GETFL) | O_NONBLOCK);
    *out = card;
    return 0;
}

void plover_card_close(plover_card *card)
{
    if (!card) return;
    if (card->pd) ibv_dealloc_pd(card->pd);
    if (card->context) ibv_close_device(card->context);
    free(card);
}

int plover_card_on_demand(const plover_card *card)
{
    return card->on_demand;
}

/* ---- memory ----------------------------------------------------------------------------------------------------- */
int plover_region_new(plover_card *card, void *address, size_t length, int access, plover_region **out,
                      plover_memory *memory, char *err, size_t errlen)
{
    int flags = 0;
    if (access & PLOVER_REMOTE_WRITE) flags |= IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_LOCAL_WRITE;
    if (access & PLOVER_REMOTE_READ) flags |= IBV_ACCESS_REMOTE_READ;
    if (access & PLOVER_ON_DEMAND) flags |= IBV_ACCESS_ON_DEMAND;
    if (!access) flags = IBV_ACCESS_LOCAL_WRITE; /* an RDMA READ writes its result here */
    plover_region *region = calloc(1, sizeof *region);
    if (!region) return fail(err, errlen, ENOMEM, "no memory");
    region->mr = ibv_reg_mr(card->pd, address, length, flags);
    if (!region->mr) {
        const int error = errno;
        struct rlimit limit = {0};
        getrlimit(RLIMIT_MEMLOCK, &limit);
        free(region);
        if (error == ENOMEM || error == EPERM || error == EAGAIN)
            return fail(err, errlen, error, "%zu MiB cannot be registered (%s): it has to be locked in memory, and the limit is "
                        "%llu MiB; raise LimitMEMLOCK of the daemon's unit", length >> 20, strerror(error),
                        (unsigned long long)limit.rlim_cur >> 20);
        return fail(err, errlen, error, "%zu MiB cannot be registered: %s", length >> 20, strerror(error));
    }
    *memory = (plover_memory){(uintptr_t)address, length, region->mr->lkey, region->mr->rkey};
    *out = region;
    return 0;
}

void plover_region_free(plover_region *region)
{
    if (!region) return;
    ibv_dereg_mr(region->mr);
    free(region);
}

/* ---- connections ------------------------------------------------------------------------------------------------ */
static int make_qp(plover_qp *qp)
{
    qp->channel = ibv_create_comp_channel(qp->card->context);
    if (!qp->channel) return -1;
    fcntl(qp->channel->fd, F_SETFL, fcntl(qp->channel->fd, F_GETFL) | O_NONBLOCK);
    qp->cq = ibv_create_cq(qp->card->context, (int)qp->depth + 1, NULL, qp->channel, 0);
    if (!qp->cq) return -1;
    struct ibv_qp_init_attr init = {
        .send_cq = qp->cq, .recv_cq = qp->cq, .qp_type = IBV_QPT_RC, .sq_sig_all = 1,
        .cap = {.max_send_wr = qp->depth, .max_recv_wr = 1, .max_send_sge = PLOVER_SEGMENTS_MAX, .max_recv_sge = 1}};
    qp->qp = ibv_create_qp(qp->card->pd, &init);
    return qp->qp ? 0 : -1;
}

int plover_qp_new(plover_card *card, unsigned depth, plover_qp **out, plover_address *own, char *err, size_t errlen)
{
    plover_qp *qp = calloc(1, sizeof *qp);
    if (!qp) return fail(err, errlen, ENOMEM, "no memory");
    qp->card = card, qp->depth = depth;
    qp->psn = (uint32_t)now_ns() & 0xffffff;
    if (!depth || make_qp(qp)) {
        const int error = depth ? errno : EINVAL;
        plover_qp_free(qp);
        return fail(err, errlen, error, "no connection for %u requests can be made: %s", depth, strerror(error));
    }
    *own = (plover_address){qp->qp->qp_num, qp->psn, card->port.lid, card->mtu, {0}};
    memcpy(own->gid, card->gid.raw, sizeof own->gid);
    *out = qp;
    return 0;
}

static int to_init(plover_qp *qp, int access)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = (uint8_t)qp->card->number,
                               .qp_access_flags = IBV_ACCESS_LOCAL_WRITE};
    if (access & PLOVER_REMOTE_WRITE) attr.qp_access_flags |= IBV_ACCESS_REMOTE_WRITE;
    if (access & PLOVER_REMOTE_READ) attr.qp_access_flags |= IBV_ACCESS_REMOTE_READ;
    return ibv_modify_qp(qp->qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
}

static int to_receive(plover_qp *qp, const plover_address *peer, const plover_patience *patience)
{
    const unsigned mtu = peer->mtu < qp->card->mtu ? peer->mtu : qp->card->mtu;
    struct ibv_qp_attr attr = {
        .qp_state = IBV_QPS_RTR, .path_mtu = mtu_of(mtu), .dest_qp_num = peer->qpn, .rq_psn = peer->psn,
        .max_dest_rd_atomic = READS_MAX, .min_rnr_timer = 12,
        .ah_attr = {.dlid = (uint16_t)peer->lid, .port_num = (uint8_t)qp->card->number,
                    .is_global = qp->card->port.link_layer == IBV_LINK_LAYER_ETHERNET || !peer->lid,
                    .grh = {.sgid_index = (uint8_t)qp->card->gid_index, .hop_limit = (uint8_t)patience->hop_limit,
                            .traffic_class = (uint8_t)patience->traffic_class}}};
    memcpy(attr.ah_attr.grh.dgid.raw, peer->gid, sizeof peer->gid);
    return ibv_modify_qp(qp->qp, &attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                         IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
}

static int to_send(plover_qp *qp, const plover_patience *patience)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTS, .timeout = (uint8_t)patience->timeout,
                               .retry_cnt = (uint8_t)patience->retry, .rnr_retry = 1, .sq_psn = qp->psn,
                               .max_rd_atomic = READS_MAX};
    return ibv_modify_qp(qp->qp, &attr, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
                         IBV_QP_MAX_QP_RD_ATOMIC);
}

int plover_qp_connect(plover_qp *qp, const plover_address *peer, int access, const plover_patience *patience, char *err,
                      size_t errlen)
{
    if (peer->mtu < 256 || peer->psn > 0xffffff || peer->qpn > 0xffffff || patience->timeout > 31 || patience->retry > 7)
        return fail(err, errlen, EINVAL, "the peer's address makes no sense (MTU %u, queue pair %u, PSN %u)", peer->mtu,
                    peer->qpn, peer->psn);
    int rc = to_init(qp, access);
    const char *step = "INIT";
    if (!rc) rc = to_receive(qp, peer, patience), step = "RTR";
    if (!rc) rc = to_send(qp, patience), step = "RTS";
    if (rc)
        return fail(err, errlen, rc, "the connection cannot be brought to %s: %s; is rdma_gid_index one of the replication "
                    "network's, on both hosts?", step, strerror(rc));
    return 0;
}

int plover_qp_revoke(plover_qp *qp)
{
    /* RESET, not ERR: after ERR, rxe may still let a packet land that it is processing. Before RESET it waits for that packet. */
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RESET};
    return -ibv_modify_qp(qp->qp, &attr, IBV_QP_STATE);
}

int plover_qp_state(plover_qp *qp)
{
    struct ibv_qp_attr attr;
    struct ibv_qp_init_attr init;
    const int rc = ibv_query_qp(qp->qp, &attr, IBV_QP_STATE, &init);
    return rc ? -rc : (int)attr.qp_state;
}

void plover_qp_free(plover_qp *qp)
{
    if (!qp) return;
    if (qp->qp) ibv_destroy_qp(qp->qp);
    plover_qp_arm(qp); /* acknowledges events: the queue cannot be destroyed before */
    if (qp->cq) ibv_destroy_cq(qp->cq);
    if (qp->channel) ibv_destroy_comp_channel(qp->channel);
    free(qp);
}

/* ---- requests --------------------------------------------------------------------------------------------------- */
static int post(plover_qp *qp, enum ibv_wr_opcode opcode, const plover_segment *segments, unsigned n, uint64_t remote,
                uint32_t rkey, uint64_t number)
{
    struct ibv_sge list[PLOVER_SEGMENTS_MAX];
    struct ibv_send_wr request = {.wr_id = number, .sg_list = list, .num_sge = (int)n, .opcode = opcode,
                                  .wr.rdma = {.remote_addr = remote, .rkey = rkey}}, *bad;
    if (!n || n > PLOVER_SEGMENTS_MAX) return -EINVAL;
    if (qp->under_way >= qp->depth) return -EAGAIN;
    for (unsigned i = 0; i < n; i++) list[i] = (struct ibv_sge){segments[i].address, segments[i].length, segments[i].lkey};
    const int rc = ibv_post_send(qp->qp, &request, &bad);
    if (!rc) qp->under_way++;
    return -rc;
}

int plover_qp_write(plover_qp *qp, const plover_segment *segments, unsigned n, uint64_t remote, uint32_t rkey,
                    uint64_t number)
{
    return post(qp, IBV_WR_RDMA_WRITE, segments, n, remote, rkey, number);
}

int plover_qp_read(plover_qp *qp, const plover_segment *into, uint64_t remote, uint32_t rkey, uint64_t number)
{
    return post(qp, IBV_WR_RDMA_READ, into, 1, remote, rkey, number);
}

int plover_qp_poll(plover_qp *qp, plover_completion *out, unsigned max, int64_t spin_ns)
{
    struct ibv_wc found[POLL_MAX];
    const int64_t end = spin_ns > 0 ? now_ns() + spin_ns : 0;
    int n;
    do n = ibv_poll_cq(qp->cq, (int)(max < POLL_MAX ? max : POLL_MAX), found);
    while (!n && spin_ns > 0 && now_ns() < end);
    for (int i = 0; i < n; i++) out[i] = (plover_completion){found[i].wr_id, found[i].status, found[i].vendor_err};
    if (n > 0) qp->under_way -= (unsigned)n;
    return n < 0 ? -EIO : n;
}

int plover_qp_fd(const plover_qp *qp)
{
    return qp->channel->fd;
}

int plover_qp_arm(plover_qp *qp)
{
    struct ibv_cq *cq;
    void *context;
    if (!qp->channel || !qp->cq) return 0;
    while (!ibv_get_cq_event(qp->channel, &cq, &context)) ibv_ack_cq_events(cq, 1);
    return -ibv_req_notify_cq(qp->cq, 0);
}

const char *plover_status_name(uint32_t status)
{
    return ibv_wc_status_str((enum ibv_wc_status)status);
}

/* Write the ranges of our copy of a ring to the same places in theirs. The completion of the last write has `number`. */
static int write_ranges(plover_qp *qp, const plover_memory *mine, const plover_memory *theirs, const plover_range *ranges,
                        int n, uint64_t number)
{
    int rc = 0;
    for (int i = 0; i < n && !rc; i++) {
        const plover_segment segment = {mine->address + ranges[i].offset, (uint32_t)ranges[i].length, mine->lkey};
        rc = plover_qp_write(qp, &segment, 1, theirs->address + ranges[i].offset, theirs->rkey, i == n - 1 ? number : 0);
    }
    return rc;
}

int plover_qp_frame(plover_qp *qp, const plover_memory *mine, const plover_memory *theirs, uint64_t id, uint64_t tail,
                    uint64_t *head, const void *data, size_t length, uint64_t number)
{
    plover_range ranges[2];
    uint64_t next = *head;
    if (mine->length != theirs->length) return -EINVAL;
    if (qp->under_way + 2 > qp->depth) return -EAGAIN;
    const int n = plover_ring_put((void *)(uintptr_t)mine->address, mine->length, id, tail, &next, data, length, ranges);
    const int rc = n < 0 ? n : write_ranges(qp, mine, theirs, ranges, n, number);
    if (!rc) *head = next;
    return rc;
}

enum { PAGE = 4096 };

/* One write of pages from index[*at] on: as many as fit its segments. Neighbouring pages share a segment. */
static int write_pages(plover_qp *qp, const plover_memory *guest, const uint32_t *index, size_t n, size_t *at, uint64_t remote,
                       uint32_t rkey)
{
    plover_segment segments[PLOVER_SEGMENTS_MAX];
    unsigned used = 0;
    size_t i = *at;
    while (i < n) {
        if (used && index[i] == index[i - 1] + 1) segments[used - 1].length += PAGE;
        else if (used == PLOVER_SEGMENTS_MAX) break;
        else segments[used++] = (plover_segment){guest->address + (uint64_t)index[i] * PAGE, PAGE, guest->lkey};
        i++;
    }
    const int rc = plover_qp_write(qp, segments, used, remote + *at * PAGE, rkey, 0);
    *at = i;
    return rc;
}

int plover_qp_pages(plover_qp *qp, const plover_memory *mine, const plover_memory *theirs, uint64_t id, uint64_t tail,
                    uint64_t *head, const plover_memory *guest, const uint32_t *index, size_t n, uint64_t number)
{
    plover_range ranges[2];
    uint64_t next = *head, payload;
    if (mine->length != theirs->length || !n) return -EINVAL;
    for (size_t i = 0; i < n; i++)
        if ((uint64_t)index[i] >= guest->length / PAGE) return -ERANGE;
    if (qp->under_way + (n + PLOVER_SEGMENTS_MAX - 1) / PLOVER_SEGMENTS_MAX + 2 > qp->depth) return -EAGAIN;
    const int ring = plover_ring_put_raw((void *)(uintptr_t)mine->address, mine->length, id, tail, &next, n * PAGE, &payload,
                                         ranges);
    int rc = ring < 0 ? ring : 0;
    for (size_t at = 0; at < n && !rc;)
        rc = write_pages(qp, guest, index, n, &at, theirs->address + payload, theirs->rkey);
    if (!rc) rc = write_ranges(qp, mine, theirs, ranges, ring, number);
    if (!rc) *head = next;
    return rc;
}
