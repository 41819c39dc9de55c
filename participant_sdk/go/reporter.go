package assent

import (
	"context"
	"sync"
	"time"

	v1 "assent.example/assent/assentv1"
)

const (
	maxCompletionBatch    = 1000
	maxCompletionsWaiting = 100000 // While the coordinator is away; report blocks beyond it.
	// How long a batch is offered before newer ones join it in the next attempt.
	completionAttempt = 2 * time.Second
	// Between a refusal that asks for a repetition and that.
	completionPause = 50 * time.Millisecond
	flushAtClose    = 5 * time.Second
	// How long completions that nobody waits for wait for others to travel with.
	completionLinger = 5 * time.Millisecond
)

// reporter tells the coordinator how branches ended, in batches and off everybody's way. A report that is lost (the
// process dies first) costs the coordinator a look at the database, nothing else. Safe for concurrent use.
type reporter struct {
	coordinator *coordinator
	logger      Logger

	mu       sync.Mutex
	changed  *sync.Cond
	waiting  []*v1.Completion
	reported uint64 // Ever passed to report.
	answered uint64
	awaited  uint64 // Up to this one they must not linger.
	stopping bool
	done     chan struct{}
}

func newReporter(coordinator *coordinator, logger Logger) *reporter {
	r := &reporter{coordinator: coordinator, logger: logger, done: make(chan struct{})}
	r.changed = sync.NewCond(&r.mu)
	go r.run()
	return r
}

// report queues the completions of one transaction, which travel together. awaited: somebody may wait for what they prove
// (another participant's Commit, an operator); else they linger for others to travel with.
func (r *reporter) report(completions []*v1.Completion, awaited bool) {
	if len(completions) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.waiting) >= maxCompletionsWaiting && !r.stopping {
		r.changed.Wait()
	}
	first := len(r.waiting) == 0
	r.waiting = append(r.waiting, completions...)
	r.reported += uint64(len(completions))
	if awaited {
		r.awaited = r.reported
	}
	if first || awaited || len(r.waiting) >= maxCompletionBatch { // Else those that are there take them along.
		r.changed.Broadcast()
	}
}

// wake makes all that wait look again.
func (r *reporter) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed.Broadcast()
}

// flush waits until everything reported so far has been answered, or the context ends; then false.
func (r *reporter) flush(ctx context.Context) bool {
	stop := make(chan struct{})
	defer close(stop)
	go func() { // A Cond knows no contexts.
		select {
		case <-ctx.Done():
			r.wake()
		case <-stop:
		}
	}()
	r.mu.Lock()
	defer r.mu.Unlock()
	goal := r.reported
	r.awaited = goal
	r.changed.Broadcast()
	for r.answered < goal {
		if ctx.Err() != nil || r.stopping {
			return false
		}
		r.changed.Wait()
	}
	return true
}

// close flushes until the context ends, and ends the goroutine; false if something was left unsaid.
func (r *reporter) close(ctx context.Context) bool {
	flushed := r.flush(ctx)
	r.mu.Lock()
	r.stopping = true
	r.changed.Broadcast()
	r.mu.Unlock()
	<-r.done
	return flushed
}

// linger waits for more to travel along, until what is there must not wait any longer. With r.mu held.
func (r *reporter) linger() {
	until := time.Now().Add(completionLinger)
	defer time.AfterFunc(completionLinger, r.wake).Stop()
	for r.awaited <= r.answered && len(r.waiting) < maxCompletionBatch && !r.stopping && time.Now().Before(until) {
		r.changed.Wait()
	}
}

func (r *reporter) run() {
	defer close(r.done)
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for len(r.waiting) == 0 && !r.stopping {
			r.changed.Wait()
		}
		if r.stopping {
			return
		}
		r.linger()
		size := len(r.waiting)
		if size > maxCompletionBatch {
			size = maxCompletionBatch
		}
		batch := append([]*v1.Completion(nil), r.waiting[:size]...)
		r.mu.Unlock()
		again := r.offer(batch)
		if len(again) > 0 {
			time.Sleep(completionPause)
		}
		r.mu.Lock()
		r.waiting = append(append([]*v1.Completion(nil), again...), r.waiting[size:]...)
		r.answered += uint64(size - len(again))
		r.changed.Broadcast()
	}
}

// offer sends a batch; answers what has to be offered again.
func (r *reporter) offer(batch []*v1.Completion) []*v1.Completion {
	response, err := r.coordinator.completed(context.Background(), &v1.CompletedRequest{Completions: batch},
		time.Now().Add(completionAttempt))
	if err != nil {
		r.logger.Printf("assent: %d completions not reported yet: %v", len(batch), err)
		if !isRetryable(err) { // A batch that is refused as a whole would be refused for ever.
			return nil
		}
		return batch
	}
	var again []*v1.Completion
	for i, result := range response.GetResults() {
		if result.GetError() == nil || i >= len(batch) {
			continue
		}
		refused := errorOfRPC(result.Error)
		if isRetryable(refused) { // The coordinator is going down, or its store is away: its word is "repeat".
			again = append(again, batch[i])
			continue
		}
		r.logger.Printf("assent: gtrid=%s bqual=%s completion %s refused: %v", batch[i].Gtrid, batch[i].Bqual,
			batch[i].Result, refused)
	}
	return again
}
