# SPDX-License-Identifier: GPL-3.0-or-later
"""With pyverbs alone: a queue pair from RESET to ERR and back, a write to ourselves, one with a wrong key. Prints what it
saw, as JSON.
"""

import json

from pyverbs.addr import AHAttr, GlobalRoute
from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.enums import (
    IBV_ACCESS_LOCAL_WRITE,
    IBV_ACCESS_REMOTE_WRITE,
    IBV_QP_STATE,
    IBV_QPS_RESET,
    IBV_QPT_RC,
    IBV_WR_RDMA_WRITE,
)
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, SendWR

ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE
seen = {"states": []}
context = Context(name="rxe0")
gid_index = next(e.gid_index for e in context.query_gid_table(64) if "ffff" in context.query_gid(1, e.gid_index).gid)
gid = context.query_gid(1, gid_index)
pd = PD(context)
cq = CQ(context, 16)
ends = [QP(pd, QPInitAttr(qp_type=IBV_QPT_RC, scq=cq, rcq=cq, cap=QPCap(max_send_wr=16))) for _ in range(2)]


def state():
    return ends[0].query(IBV_QP_STATE)[0].qp_state


seen["states"].append(state())
for one, other in (ends, ends[::-1]):
    attributes = QPAttr(port_num=1)
    attributes.qp_access_flags = ACCESS
    one.to_init(attributes)
    attributes.ah_attr = AHAttr(gr=GlobalRoute(dgid=gid, sgid_index=gid_index), is_global=1, port_num=1)
    attributes.dest_qp_num, attributes.rq_psn, attributes.sq_psn, attributes.path_mtu = other.qp_num, 5, 5, 3
    attributes.max_dest_rd_atomic, attributes.max_rd_atomic, attributes.min_rnr_timer = 1, 1, 12
    attributes.timeout, attributes.retry_cnt, attributes.rnr_retry = 16, 3, 1
    one.to_rts(attributes)
seen["states"].append(state())
source, target = MR(pd, 4096, ACCESS), MR(pd, 4096, ACCESS)
source.write(b"as the leader wrote it", 22)


def write(rkey):
    request = SendWR(opcode=IBV_WR_RDMA_WRITE, num_sge=1, sg=[SGE(source.buf, 22, source.lkey)], wr_id=7)
    request.set_wr_rdma(rkey, target.buf)
    ends[0].post_send(request)
    while True:
        found, completions = cq.poll()
        if found:
            return completions[0].status


seen["write"] = write(target.rkey)
seen["landed"] = target.read(22, 0).decode()
seen["bad_rkey"] = write(target.rkey ^ 0xFF00)
seen["after_error"] = write(target.rkey)
seen["states"].append(state())
ends[0].modify(QPAttr(qp_state=IBV_QPS_RESET), IBV_QP_STATE)
seen["states"].append(state())
print(json.dumps(seen))
