package api

import (
	"context"
	"sync"
	"time"
)

// fakeKeys is a store of keys in memory, with one key at a time.
type fakeKeys struct {
	mu          sync.Mutex
	reservation Reservation
	state       KeyState // "" when the key is free
	lapses      time.Time
	doubt       bool
	answer      []byte
	err         error // of every call
	hang        bool
	deaf        bool // to what comes after a reservation
	reserved    int
	lease       time.Duration
}

func (k *fakeKeys) Reserve(ctx context.Context, r Reservation, lease time.Duration) (Reserved, error) {
	if k.hang {
		<-ctx.Done()
		return Reserved{}, ctx.Err()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reserved++
	old := k.reservation
	switch {
	case k.err != nil:
		return Reserved{}, k.err
	case k.state == "":
		k.state = KeyReserved
	case r.Key != old.Key || r.Fingerprint != old.Fingerprint:
		return Reserved{State: KeyMismatch}, nil
	case k.state == KeyDone:
		return Reserved{State: KeyDone, ID: old.ID, Answer: k.answer}, nil
	case time.Now().Before(k.lapses):
		return Reserved{State: KeyBusy, ID: old.ID, RetryAfter: time.Until(k.lapses)}, nil
	default:
		k.state, k.doubt, r.ID = KeyTaken, true, old.ID
	}
	k.reservation, k.lapses, k.lease = r, time.Now().Add(lease), lease
	return Reserved{State: k.state, ID: r.ID}, nil
}

func (k *fakeKeys) Complete(ctx context.Context, r Reservation, answer []byte) error {
	if err := k.after(ctx); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil && r == k.reservation {
		k.state, k.answer = KeyDone, answer
	}
	return k.err
}

func (k *fakeKeys) Release(ctx context.Context, r Reservation) error {
	if err := k.after(ctx); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.err != nil || r != k.reservation:
	case k.doubt:
		k.lapses = time.Time{}
	default:
		k.state = ""
	}
	return k.err
}

// after is what a call after the reservation meets.
func (k *fakeKeys) after(ctx context.Context) error {
	if k.deaf {
		<-ctx.Done()
	}
	return ctx.Err()
}
