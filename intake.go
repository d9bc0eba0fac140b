package pulse

// wanted is the channel of what was read while the session can take more.
func (s *session) wanted() <-chan intake {
	full := len(s.rows) >= maxRows && s.reached >= s.lastRow // what lies before it brings few new ones, and rows wait for it to be read
	if full || len(s.unacked.entries)+s.unacked.unsaved >= s.window || s.unacked.size >= maxBytes {
		return nil
	}
	return s.intakes
}

// arrived takes what was read.
func (s *session) arrived(in intake) {
	for i := range in.envs {
		env := &in.envs[i]
		e := &entry{position: env.Position, commitment: env.Commitment, size: env.Size()}
		if in.receipts != nil {
			e.receipt = in.receipts[i]
		}
		s.unacked.add(e)
		s.reached = env.Position
		if _, done := s.passed[env.Position]; done || s.rows[env.Position] != nil {
			delete(s.passed, env.Position)
			s.done(e)
			continue
		}
		s.enqueue(newItem(env, e))
	}
	if in.next > s.reached {
		s.unacked.add(&entry{position: in.next, done: true})
		s.reached = in.next
	}
	s.acks = append(s.acks, in.late...)
	s.moved()
}

// enqueue gives a delivery its place: ready, behind another one of its key in memory, or behind a failed one as a row.
func (s *session) enqueue(it *item) {
	key := s.laneKey(&it.env)
	if s.left.have(it.position, key) {
		s.holdBack(it, key)
		return
	}
	if key == "" {
		s.ready = append(s.ready, it)
		return
	}
	l := s.lanes[key]
	switch {
	case l != nil && len(l.rows) > 0:
		s.follow(l, it)
		s.advanceLane(l) // it comes again, and may be before what holds up the others
	case s.sub.batched(): // one batch at a time keeps the order; a lane exists only while it is blocked
		s.ready = append(s.ready, it)
	case l != nil:
		it.lane = l
		l.fresh = append(l.fresh, it)
		s.advanceLane(l)
	default:
		l = s.lane(key)
		it.lane, l.active = l, it
		s.ready = append(s.ready, it)
	}
}

// laneKey is the key that orders an event in this subscription, "" when none does.
func (s *session) laneKey(env *Envelope) string {
	if !s.sub.ordered {
		return ""
	}
	return env.Key
}

// lane returns the lane of a key.
func (s *session) lane(key string) *lane {
	l := s.lanes[key]
	if l == nil {
		l = &lane{key: key}
		s.lanes[key] = l
	}
	return l
}

// follow puts a delivery behind a failed one of its key, as a row.
func (s *session) follow(l *lane, it *item) {
	s.putRow(it, StatusWaiting)
	s.place(l, it)
}

// place puts a delivery among the rows of a lane. Only the first of them can be due: the others wait, also when they were tried before.
func (s *session) place(l *lane, it *item) {
	it.lane = l
	second := max(l.insert(it), 1) // the delivery itself, or the one whose place it takes
	if second < len(l.rows) && l.rows[second].row.Status == StatusRetry {
		s.putRow(l.rows[second], StatusWaiting)
	}
}

// putRow gives a delivery a row with a status. Unless it is just being tried the cursor passes it then, and its
// envelope is read again when it is needed.
func (s *session) putRow(it *item, status DeliveryStatus) {
	if it.row == nil {
		it.row = &DeliveryState{
			Subscription: s.sub.name, Position: it.env.Position, Name: it.env.Name, Key: it.env.Key, Lane: s.laneKey(&it.env),
		}
	}
	it.row.Status = status
	s.rows[it.env.Position] = it
	s.dirty[it.env.Position] = struct{}{}
	if status == StatusRunning {
		return
	}
	it.env = Envelope{Position: it.env.Position, Name: it.env.Name, Key: it.env.Key}
	if it.entry != nil {
		s.done(it.entry)
		it.entry = nil
		s.moved()
	}
}
