package natsbroker

import (
	"context"
	"fmt"

	"github.com/edupulse-live/pulse"
)

// Pending asks the server what was not acknowledged; see pulse.Feed. Until it is an ordered feed's turn it cannot tell.
func (f *Feed) Pending(ctx context.Context) (int, error) {
	f.mu.Lock()
	err := f.usable("pending")
	if err == nil && f.sub == nil {
		err = fmt.Errorf("natsbroker: pending: %w: another feed of the subscription is active", pulse.ErrBroker)
	}
	f.mu.Unlock()
	if err != nil {
		return 0, err
	}
	info, err := f.broker.look(ctx, f.consumer)
	if err != nil {
		return 0, failed("pending", err)
	}
	return int(info.NumPending) + info.NumAckPending, nil
}
