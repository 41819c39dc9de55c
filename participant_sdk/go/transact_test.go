package assent_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"assent.example/assent"
)

func TestTransact(t *testing.T) {
	forKinds(t, func(t *testing.T, r *rig) {
		must(t, r.client.Transact(ctx, func(ctx context.Context, tx *assent.Global) error {
			if assent.FromContext(ctx) != tx {
				t.Error("the context does not carry the transaction")
			}
			r.transfer(ctx, t, tx)
			return nil
		}))
		r.expectValues(t, 1, 99, 101)

		mine := errors.New("mine")
		err := r.client.Transact(ctx, func(ctx context.Context, tx *assent.Global) error {
			r.transfer(ctx, t, tx)
			return mine
		})
		if err != mine {
			t.Error(err)
		}
		r.expectValues(t, 1, 99, 101)

		func() {
			defer func() {
				if recover() != "out" {
					t.Error("the panic did not go on")
				}
			}()
			_ = r.client.Transact(ctx, func(ctx context.Context, tx *assent.Global) error {
				r.transfer(ctx, t, tx)
				panic("out")
			})
		}()
		r.expectValues(t, 1, 99, 101)
		r.expectIdle(t)
	})
}

// What became of the transaction comes out of Transact although its function fails.
func TestTransactSaysWhatBecameOfItWhenItsFunctionFails(t *testing.T) {
	r := newRig(t, kinds[0])
	mine := &mysql.MySQLError{Number: 42, Message: "mine"}
	expectBoth := func(t *testing.T, err error, reason assent.Reason) {
		t.Helper()
		known := expectReason(t, err, reason)
		var behind *mysql.MySQLError
		if !errors.Is(err, reason) || !errors.Is(err, mine) || !errors.As(err, &behind) || known.Metadata["gtrid"] == "" ||
			!strings.Contains(err.Error(), "mine") {
			t.Error(err)
		}
	}
	for name, options := range map[string][]assent.BeginOption{"asked": nil, "sole": {assent.WithSoleParticipant()}} {
		t.Run("committed inside/"+name, func(t *testing.T) {
			before := r.value(t, 1, 1)
			expectBoth(t, r.client.Transact(ctx, func(ctx context.Context, tx *assent.Global) error {
				r.transfer(ctx, t, tx)
				must(t, tx.Commit(ctx))
				return mine
			}, options...), assent.GlobalCommitted)
			r.expectValues(t, 1, 200-before-1, before+1)
		})
		t.Run("rolled back inside/"+name, func(t *testing.T) {
			if err := r.client.Transact(ctx, func(ctx context.Context, tx *assent.Global) error {
				r.transfer(ctx, t, tx)
				must(t, tx.Rollback(ctx, ""))
				return mine
			}, options...); err != error(mine) {
				t.Error(err)
			}
		})
	}
	t.Run("the workers' votes decided", func(t *testing.T) {
		before := r.value(t, 1, 2)
		expectBoth(t, r.client.Transact(ctx, func(ctx context.Context, tx *assent.Global) error {
			worker, err := r.client.Join(tx.Gtrid())
			must(t, err)
			defer worker.Close()
			must(t, worker.Branch(ctx, r.names[1], r.dbs[1], add(1, 2)))
			must(t, worker.Prepare(ctx))
			return mine
		}, assent.WithPolicy(assent.WhenAllPrepared), assent.WithExpectedBranches(1)), assent.GlobalCommitted)
		r.expectValues(t, 2, r.value(t, 0, 2), before+1)
	})
	t.Run("its error is about another transaction", func(t *testing.T) {
		var gtrid string
		err := r.client.Transact(ctx, func(ctx context.Context, tx *assent.Global) error {
			gtrid = tx.Gtrid()
			must(t, tx.Commit(ctx))
			return r.client.Transact(ctx, func(ctx context.Context, tx *assent.Global) error {
				must(t, tx.Commit(ctx))
				return mine
			})
		})
		expectBoth(t, err, assent.GlobalCommitted)
		if assent.MetadataOf(err)["gtrid"] != gtrid {
			t.Error(err)
		}
	})
	t.Run("its error says it already", func(t *testing.T) {
		var said error
		if err := r.client.Transact(ctx, func(ctx context.Context, tx *assent.Global) error {
			must(t, tx.Commit(ctx))
			said = tx.Rollback(ctx, "")
			return said
		}); err != said {
			t.Error(err)
		}
	})
	r.expectIdle(t)
}

func TestTransactIsInDoubtWhenNobodyCouldBeAsked(t *testing.T) {
	r := newOwnRig(t, kinds[0])
	mine := errors.New("mine")
	for name, c := range map[string]struct {
		options []assent.BeginOption
		work    bool // In a branch of this process, which has not voted then.
		commit  bool // Inside the function.
		inDoubt bool
	}{
		"the workers' votes may have decided": {[]assent.BeginOption{assent.WithPolicy(assent.WhenAllPrepared), assent.WithExpectedBranches(1)}, false, false, true},
		"an own branch has not voted":         {nil, true, false, false},
		"a sole one without a branch":         {[]assent.BeginOption{assent.WithSoleParticipant()}, false, false, false},
		"a sole one's vote is out":            {[]assent.BeginOption{assent.WithSoleParticipant()}, true, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := assent.NewClient(r.assentd.Address(), assent.WithLogger(testLog{t}),
				assent.WithCallPatience(300*time.Millisecond), assent.WithDecisionPatience(300*time.Millisecond))
			must(t, err)
			defer client.Close()
			err = client.Transact(ctx, func(ctx context.Context, tx *assent.Global) error {
				if c.work {
					r.transfer(ctx, t, tx)
				}
				r.assentd.Kill9()
				if c.commit {
					expectReason(t, tx.Commit(ctx), assent.OutcomeInDoubt)
				}
				return mine
			}, c.options...)
			must(t, r.assentd.Restart())
			if !errors.Is(err, mine) || errors.Is(err, assent.ErrInDoubt) != c.inDoubt || (!c.inDoubt && err != mine) {
				t.Error(err)
			}
		})
	}
}
