"""Who leads: ballots, votes, leases and releases. No worker ever obeys two leaders, and no majority is needed.

Raft's election (Ongaro and Ousterhout 2014, §5.2, §9.6 for PreVote) with two changes. A vote is a grant by a worker,
with a lease, and a candidate needs more than half of the nodes that it *sees*, not of a fixed set: so a pair goes on
when one lid closes. Two halves of a mesh may then each have a leader; what keeps them apart is the fence. A worker
obeys only the ballot that it promised, and a promise is on disk before anybody hears of it.
"""
