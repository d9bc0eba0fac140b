package pulse

// leftovers are the handlers that sessions of a runner have ended without, because they do not return. Until it does, each keeps its
// place among the concurrent ones and its key, or its delivery where that has none, also in the next sessions of this process. What
// it answers then counts for nothing: its delivery is handled again, and no attempt is spent.
type leftovers struct {
	lanes   map[*item]string // of the deliveries they have; "" where they hold up no other
	workers int              // that run them
	lease   Lease            // of the session that left some last, not given back; zero when there is none
}

// leave ends the session without the handlers that run.
func (s *session) leave() {
	if len(s.running) == 0 {
		return
	}
	for it := range s.running {
		env := &it.env
		if it.row != nil { // then the envelope may be the worker's
			env = &Envelope{Key: it.row.Key}
		}
		s.left.lanes[it] = s.laneKey(env)
	}
	s.left.workers += s.busy
	s.bus.log.Error("pulse: handlers did not return and were left behind", "subscription", s.sub.name, "handlers", s.busy)
}

// back takes what a worker reports if a former session has left it behind.
func (l *leftovers) back(rs []result) bool {
	if _, left := l.lanes[rs[0].item]; !left {
		return false
	}
	for i := range rs {
		delete(l.lanes, rs[i].item)
	}
	l.workers--
	return true
}

// have reports whether a handler that was left behind still has a delivery, or another one of its lane.
func (l *leftovers) have(p Position, lane string) bool {
	for it, held := range l.lanes {
		if it.position == p || lane != "" && held == lane {
			return true
		}
	}
	return false
}

// holdBack makes a row of a delivery that was read and has to wait for a handler that was left behind, so that the cursor can pass it.
func (s *session) holdBack(it *item, lane string) {
	if lane == "" {
		s.putRow(it, StatusRetry)
		s.due.push(it)
		return
	}
	l := s.lane(lane)
	s.follow(l, it)
	s.advanceLane(l)
}
