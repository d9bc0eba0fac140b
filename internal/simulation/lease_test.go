package simulation

import (
	"time"

	"github.com/edupulse-live/pulse"
)

// granted notes a lease a process was told to have, until expires at least.
func (w *world) granted(n *node, asked, got pulse.Lease, expires time.Time) {
	w.trace("%s has the lease %d of %s, unclean %v", n.name, got.Token, got.Name, got.Unclean)
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.leases[got.Name]
	switch {
	case asked.Token != 0: // renewed
		if old != nil && old.lease.Token == got.Token {
			old.expires, old.lease = expires, got
		}
		return
	case old != nil && old.lease.Token >= got.Token:
		return // somebody took it since
	case old != nil && old.node != n && !old.released && time.Now().Before(old.expires):
		w.violations = append(w.violations, "G6: the lease of "+got.Name+" was given to "+n.name+" while "+old.node.name+" held it")
	}
	w.leases[got.Name] = &grant{lease: got, node: n, expires: expires}
	w.coverage["a lease"]++
	if got.Unclean {
		w.coverage["a lease taken over uncleanly"]++
	}
}

// releasing notes that a process gives a lease back: none of its handlers may run any more.
func (w *world) releasing(n *node, lease pulse.Lease) {
	w.history.mu.Lock()
	busy := len(w.history.running[running{n, lease.Name}])
	w.history.mu.Unlock()
	if busy > 0 {
		w.violate("G10: %s gives back the lease of %q while %d of its handlers run", n.name, lease.Name, busy)
	}
	w.trace("%s releases the lease %d of %s", n.name, lease.Token, lease.Name)
	w.mu.Lock()
	defer w.mu.Unlock()
	if g := w.leases[lease.Name]; g != nil && g.lease.Token == lease.Token {
		g.released = true
	}
}

// isFenced reports whether another process has been told to have a newer lease.
func (w *world) isFenced(lease pulse.Lease) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.leases[lease.Name]
	return g != nil && g.lease.Token > lease.Token
}
