package assent

import (
	"context"
	"sync"
	"time"

	v1 "assent.example/assent/assentv1"
)

// reservation holds ids for transactions that are begun without asking the coordinator, and the terms on which their
// branches run (ReserveGtrids). Both are good for some seconds; then the next who needs them asks again.
//
// Safe for concurrent use; calls may block until the coordinator has answered.
type reservation struct {
	coordinator *coordinator

	mu          sync.Mutex
	block       string
	next, count int
	until       time.Time
	terms       map[string]*v1.BranchTerms
}

func (r *reservation) isValid() bool { return r.next < r.count && time.Now().Before(r.until) }

// renew asks for all resources known so far, and one more if it is not empty. With r.mu held.
func (r *reservation) renew(ctx context.Context, resource string, giveUp time.Time) *Error {
	request := &v1.ReserveGtridsRequest{}
	for known := range r.terms {
		request.Resources = append(request.Resources, known)
	}
	alone := 0
	if resource != "" {
		request.Resources = append(request.Resources, resource)
		alone = 1
	}
	asked := time.Now()
	response, err := r.coordinator.reserveGtrids(ctx, request, giveUp)
	if err != nil && len(request.Resources) > alone {
		// One that was used before may be what is refused now; it is asked for again by whoever needs it.
		r.terms = nil
		request.Resources = request.Resources[len(request.Resources)-alone:]
		response, err = r.coordinator.reserveGtrids(ctx, request, giveUp)
	}
	if err != nil {
		return err
	}
	r.terms = map[string]*v1.BranchTerms{}
	for _, terms := range response.GetTerms() {
		r.terms[terms.GetResource()] = terms
	}
	r.block, r.next, r.count = response.GetPrefix(), 0, int(response.GetCount())
	r.until = asked.Add(response.GetLifetime().AsDuration())
	return nil
}

// takeGtrid answers an id that nobody else has.
func (r *reservation) takeGtrid(ctx context.Context, giveUp time.Time) (string, *Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.isValid() {
		if err := r.renew(ctx, "", giveUp); err != nil {
			return "", err
		}
	}
	r.next++
	return gtridOfBlock(r.block, r.next-1), nil
}

// termsOf: RESOURCE_NOT_FOUND, RESOURCE_QUARANTINED.
func (r *reservation) termsOf(ctx context.Context, resource string, giveUp time.Time) (*v1.BranchTerms, *Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for tries := 0; tries < 2; tries++ { // The second time if its terms were refused among others'.
		known := r.terms[resource]
		if known != nil && r.isValid() {
			return known, nil
		}
		asked := resource
		if known != nil {
			asked = ""
		}
		if err := r.renew(ctx, asked, giveUp); err != nil {
			return nil, err
		}
	}
	if known := r.terms[resource]; known != nil {
		return known, nil
	}
	return nil, newError(ResourceNotFound, "the coordinator did not answer the terms of the resource",
		map[string]string{"resource": resource})
}

// forget: something was refused on these terms; nothing that was answered before is used again.
func (r *reservation) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.until = time.Time{}
}
