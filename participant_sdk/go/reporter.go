package assent

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "assent.example/assent/assentv1"
)

const (
	maxCompletionBatch = 1000
	// The same in bytes, for those that bring their transaction; gRPC takes four times as much in one message.
	maxCompletionBytes    = 1 << 20
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
	waiting  []waitingCompletion
	reported uint64 // Ever passed to report.
	answered uint64
	awaited  uint64 // Up to this one they must not linger.
	stopping bool
	done     chan struct{}
}

type waitingCompletion struct {
	*v1.Completion
	since time.Time // When its Create.Age was true.
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
	for _, completion := range completions {
		r.waiting = append(r.waiting, waitingCompletion{completion, time.Now()})
	}
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
		batch := r.nextBatch()
		r.mu.Unlock()
		again := r.offer(batch)
		if len(again) > 0 {
			time.Sleep(completionPause)
		}
		r.mu.Lock()
		var kept []waitingCompletion
		for _, place := range again {
			kept = append(kept, r.waiting[place])
		}
		r.waiting = append(kept, r.waiting[len(batch):]...)
		r.answered += uint64(len(batch) - len(again))
		r.changed.Broadcast()
	}
}

// nextBatch is the first of those that wait, as old as they are now. With r.mu held.
func (r *reporter) nextBatch() []*v1.Completion {
	var batch []*v1.Completion
	bytes := 0
	for _, waiting := range r.waiting {
		completion := waiting.Completion
		bytes += proto.Size(completion)
		if len(batch) >= maxCompletionBatch || (len(batch) > 0 && bytes > maxCompletionBytes) {
			break
		}
		if completion.Create != nil { // However long the coordinator is away, its branch must not look younger than it is.
			completion = proto.Clone(completion).(*v1.Completion)
			completion.Create.Age = durationpb.New(completion.Create.Age.AsDuration() + time.Since(waiting.since))
		}
		batch = append(batch, completion)
	}
	return batch
}

// offer sends a batch; answers the places of what has to be offered again.
func (r *reporter) offer(batch []*v1.Completion) []int {
	response, err := r.coordinator.completed(context.Background(), &v1.CompletedRequest{Completions: batch},
		time.Now().Add(completionAttempt))
	if err != nil {
		r.logger.Printf("assent: %d completions not reported yet: %v", len(batch), err)
		if !isRetryable(err) { // A batch that is refused as a whole would be refused for ever.
			return nil
		}
		all := make([]int, len(batch))
		for i := range all {
			all[i] = i
		}
		return all
	}
	var again []int
	for i, result := range response.GetResults() {
		if result.GetError() == nil || i >= len(batch) {
			continue
		}
		refused := errorOfRPC(result.Error)
		if isRetryable(refused) { // The coordinator is going down, or its store is away: its word is "repeat".
			again = append(again, i)
			continue
		}
		r.logger.Printf("assent: gtrid=%s bqual=%s completion %s refused: %v", batch[i].Gtrid, batch[i].Bqual,
			batch[i].Result, refused)
	}
	return again
}
