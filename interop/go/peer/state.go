package main

import (
	"context"
	"sync"
	"time"
)

// run is what is told of handlers that may be cancelled, by the key their caller chose.
type run struct {
	runs, ends, ran, left int32
	cancelled             bool
	err                   string
}

var (
	runsLock sync.Mutex
	runs     = map[string]*run{}
)

// begin notes a handler's start; the returned function notes its end.
func begin(ctx context.Context, key string) func(err error) {
	started := time.Now()
	left := int32(-1)
	if deadline, ok := ctx.Deadline(); ok {
		left = int32(time.Until(deadline).Milliseconds())
	}
	runsLock.Lock()
	defer runsLock.Unlock()
	if runs[key] == nil {
		runs[key] = &run{}
	}
	runs[key].runs++
	return func(err error) {
		runsLock.Lock()
		defer runsLock.Unlock()
		r := runs[key]
		r.ends++
		r.ran = int32(time.Since(started).Milliseconds())
		r.left = left
		r.cancelled = ctx.Err() != nil
		r.err = ""
		if err != nil {
			r.err = err.Error()
		} else if ctx.Err() != nil {
			r.err = ctx.Err().Error()
		}
	}
}

func lookUp(key string) run {
	runsLock.Lock()
	defer runsLock.Unlock()
	if runs[key] == nil {
		return run{}
	}
	return *runs[key]
}

// sleep waits, or less if the context ends.
func sleep(ctx context.Context, ms int32) error {
	timer := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
