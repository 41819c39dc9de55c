package assent_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"assent.example/assent"
	v1 "assent.example/assent/assentv1"
)

func TestAClosedClientSaysSoAtOnce(t *testing.T) {
	r := newRig(t, kinds[0])
	row := 10 // What stays in doubt keeps its locks for a while.
	for _, addresses := range []string{r.assentd.Address(), r.assentd.Address() + ",127.0.0.1:1"} {
		for _, stream := range []bool{true, false} {
			row++
			r.sql(t, 0, fmt.Sprintf("INSERT INTO shop.t VALUES (%d, 100)", row))
			client, err := assent.NewClient(addresses, assent.WithLogger(testLog{t}), assent.WithCallStream(stream))
			must(t, err)
			asked, err := client.Begin(ctx)
			must(t, err)
			sole, err := client.Begin(ctx, assent.WithSoleParticipant())
			must(t, err)
			must(t, sole.Branch(ctx, r.names[0], r.dbs[0], add(1, row)))
			must(t, client.Close())
			begun := time.Now()
			expectClosed := func(err error, reason assent.Reason) {
				t.Helper()
				if known := expectReason(t, err, reason); !strings.Contains(known.Message, "the client has been closed") {
					t.Error(err)
				}
			}
			_, err = client.Begin(ctx)
			expectClosed(err, assent.CoordinatorUnreachable)
			_, err = client.Begin(ctx, assent.WithSoleParticipant(), assent.WithGtrid(""))
			if err != nil { // Ids may be left.
				expectClosed(err, assent.CoordinatorUnreachable)
			}
			_, err = asked.OpenBranch(ctx, r.names[0], r.dbs[0])
			expectClosed(err, assent.CoordinatorUnreachable)
			expectClosed(asked.Rollback(ctx, ""), assent.CoordinatorUnreachable)
			expectClosed(sole.Commit(ctx), assent.CoordinatorUnreachable)
			_ = asked.Close()
			_ = sole.Close()
			r.expectValues(t, row, 100)
			r.expectIdle(t)
			if took := time.Since(begun); took > 2*time.Second {
				t.Error(took)
			}
			r.expectState(t, asked.Gtrid(), v1.Global_STATE_ACTIVE)
		}
	}
}

func TestCallsUnderWayEndWhenTheClientIsClosed(t *testing.T) {
	r := newOwnRig(t, kinds[0])
	row := 10 // What stays in doubt keeps its locks for a while.
	for stream, addresses := range map[bool]string{true: r.assentd.Address(), false: r.assentd.Address() + ",127.0.0.1:1"} {
		row++
		r.sql(t, 0, fmt.Sprintf("INSERT INTO shop.t VALUES (%d, 100)", row))
		must(t, r.assentd.Restart())
		client, err := assent.NewClient(addresses, assent.WithLogger(testLog{t}), assent.WithCallStream(stream))
		must(t, err)
		voted, err := client.Begin(ctx)
		must(t, err)
		must(t, voted.Branch(ctx, r.names[0], r.dbs[0], add(1, row)))
		r.assentd.Kill9()
		answers, ends := make(chan error, 2), make(chan error, 1)
		for _, options := range [][]assent.BeginOption{nil, {assent.WithSoleParticipant()}} {
			go func(options []assent.BeginOption) {
				_, err := client.Begin(ctx, options...)
				answers <- err
			}(options)
		}
		limited, cancel := context.WithTimeout(ctx, time.Minute) // What such a call does goes on in the background.
		defer cancel()
		go func() { ends <- voted.Commit(limited) }()
		time.Sleep(300 * time.Millisecond)
		begun := time.Now()
		must(t, client.Close())
		for range [2]int{} {
			if known := expectReason(t, <-answers, assent.CoordinatorUnreachable); !strings.Contains(known.Message, "the client has been closed") {
				t.Error(known)
			}
		}
		expectReason(t, <-ends, assent.OutcomeInDoubt)
		if took := time.Since(begun); took > 8*time.Second { // 5 s at most for what is still to be told.
			t.Error(took)
		}
	}
}
