package assent_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"assent.example/assent"
	"assent.example/assent/assentgrpc"
	"assent.example/assent/assenthttp"
	v1 "assent.example/assent/assentv1"
)

const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// payments is a service with a handler that takes part with its database; any service would do.
type payments struct {
	v1.UnimplementedCoordinatorServiceServer
	r      *rig
	fail   error
	panics bool
	trace  string
}

func (p *payments) work(ctx context.Context) error {
	p.trace = assent.Traceparent(ctx)
	if tx := assent.FromContext(ctx); tx != nil {
		if err := tx.Branch(ctx, p.r.names[1], p.r.dbs[1], add(1, 1)); err != nil {
			return err
		}
	}
	if p.panics {
		panic("out")
	}
	return p.fail
}

func (p *payments) GetGlobal(ctx context.Context, _ *v1.GetGlobalRequest) (*v1.GetGlobalResponse, error) {
	return &v1.GetGlobalResponse{Etag: "paid"}, p.work(ctx)
}

func (p *payments) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if err := p.work(request.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusTeapot)
		return
	}
	w.Header().Set("X-Paid", "yes")
	_, _ = io.WriteString(w, "paid")
}

// callers are the ways to call the service; both with the transaction of the context.
func callers(t *testing.T, p *payments) map[string]func(ctx context.Context) error {
	t.Helper()
	client := p.r.newClient2(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	recovering := func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (answer any, err error) {
		defer func() {
			if recover() != nil {
				err = status.Error(codes.Internal, "panic")
			}
		}()
		return handle(ctx, request)
	}
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(recovering, assentgrpc.UnaryServerInterceptor(client)))
	v1.RegisterCoordinatorServiceServer(server, p)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	channel, err := grpc.NewClient("passthrough:///"+listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(assentgrpc.UnaryClientInterceptor()))
	must(t, err)
	web := httptest.NewServer(assenthttp.Handler(client, p))
	web.Config.ErrorLog = nil
	t.Cleanup(web.Close)
	browser := &http.Client{Transport: assenthttp.Transport{}}
	return map[string]func(ctx context.Context) error{
		"grpc": func(ctx context.Context) error {
			answer, err := v1.NewCoordinatorServiceClient(channel).GetGlobal(ctx, &v1.GetGlobalRequest{})
			if err == nil && answer.Etag != "paid" {
				t.Error(answer)
			}
			return err
		},
		"http": func(ctx context.Context) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, web.URL, nil)
			must(t, err)
			answer, err := browser.Do(request)
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			body, _ := io.ReadAll(answer.Body)
			if answer.StatusCode != http.StatusOK {
				return errors.New(string(body))
			}
			if string(body) != "paid" || answer.Header.Get("X-Paid") != "yes" {
				t.Errorf("%s %v", body, answer.Header)
			}
			return nil
		},
	}
}

func TestAHandlerRunsAsABranchByItself(t *testing.T) {
	for _, k := range []kind{kinds[0], kinds[2]} {
		r := newRig(t, k)
		p := &payments{r: r}
		for name, call := range callers(t, p) {
			t.Run(k.name+"/"+name, func(t *testing.T) {
				before := r.value(t, 0, 1)
				var gtrid string
				must(t, r.client.Transact(assent.WithTraceparent(ctx, trace), func(ctx context.Context, tx *assent.Global) error {
					gtrid = tx.Gtrid()
					must(t, tx.Branch(ctx, r.names[0], r.dbs[0], add(1, 1)))
					return call(ctx)
				}))
				r.expectValues(t, 1, before+1, before+1)
				r.expectState(t, gtrid, v1.Global_STATE_COMMITTED)
				if p.trace != trace {
					t.Errorf("traceparent is %q", p.trace)
				}

				// The caller changes its mind after the answer.
				tx, err := r.client.Begin(ctx)
				must(t, err)
				must(t, call(assent.NewContext(ctx, tx)))
				must(t, tx.Rollback(ctx, ""))
				r.expectIdle(t)
				r.expectValues(t, 1, before+1, before+1)

				// The handler fails, and the caller does not care.
				p.fail = status.Error(codes.NotFound, "no such account")
				tx, err = r.client.Begin(ctx)
				must(t, err)
				must(t, tx.Branch(ctx, r.names[0], r.dbs[0], add(1, 1)))
				if err := call(assent.NewContext(ctx, tx)); err == nil || (name == "grpc" && status.Code(err) != codes.NotFound) {
					t.Error(err)
				}
				p.fail = nil
				expectReason(t, tx.Commit(ctx), assent.GlobalRolledBack)

				// It panics.
				p.panics = true
				tx, err = r.client.Begin(ctx)
				must(t, err)
				must(t, tx.Branch(ctx, r.names[0], r.dbs[0], add(1, 1)))
				if err := call(assent.NewContext(ctx, tx)); err == nil {
					t.Error("no error")
				}
				p.panics = false
				expectReason(t, tx.Commit(ctx), assent.GlobalRolledBack)
				r.expectValues(t, 1, before+1, before+1)

				// Without a transaction it is an ordinary call.
				must(t, call(ctx))

				// One that has been rolled back takes nobody in.
				tx, err = r.client.Begin(ctx)
				must(t, err)
				must(t, tx.Rollback(ctx, ""))
				if err := call(assent.NewContext(ctx, tx)); err == nil {
					t.Error("no error")
				} else if name == "grpc" {
					expectGRPC(t, err, codes.Aborted, assent.GlobalRolledBack)
				}

				// A sole participant's cannot be joined: nothing is sent.
				sole, err := r.client.Begin(ctx, assent.WithSoleParticipant())
				must(t, err)
				if err := call(assent.NewContext(ctx, sole)); err == nil {
					t.Error("no error")
				}
				r.expectIdle(t)
				r.expectValues(t, 1, before+1, before+1)
			})
		}
	}
}

// expectGRPC: what crosses the wire has its code and its reason.
func expectGRPC(t *testing.T, err error, code codes.Code, reason assent.Reason) {
	t.Helper()
	from := status.Convert(err)
	if from.Code() != code {
		t.Error(err)
	}
	for _, detail := range from.Details() {
		if info, ok := detail.(interface{ GetReason() string }); ok && info.GetReason() == string(reason) {
			return
		}
	}
	t.Errorf("%v does not carry %s", err, reason)
}

// What a handler does with its http.ResponseWriter, and whether that is an answer that stands: then the branch counts.
func TestOnlyAnAnswerThatStandsIsVotedFor(t *testing.T) {
	r := newRig(t, kinds[0])
	client := r.newClient2(t)
	for name, c := range map[string]struct {
		answer  func(w http.ResponseWriter)
		early   func(w http.ResponseWriter) // Before the branch.
		status  int                         // What the caller sees; 0: its connection breaks.
		body    string
		commits bool
	}{
		"early hints, then an error": {
			early:  func(w http.ResponseWriter) { w.Header().Set("Link", "</s.css>; rel=preload"); w.WriteHeader(103) },
			answer: func(w http.ResponseWriter) { http.Error(w, "no money", 500) }, status: 500, body: "no money\n"},
		"early hints, then none": {
			early:  func(w http.ResponseWriter) { w.WriteHeader(100); w.WriteHeader(102); w.WriteHeader(103) },
			answer: func(http.ResponseWriter) {}, status: 200, commits: true},
		"early hints, then a body": {
			early:  func(w http.ResponseWriter) { w.WriteHeader(103) },
			answer: func(w http.ResponseWriter) { _, _ = io.WriteString(w, "ok") }, status: 200, body: "ok", commits: true},
		"created": {
			answer: func(w http.ResponseWriter) { w.WriteHeader(201); w.WriteHeader(200) }, status: 201, commits: true},
		"a redirection": {
			answer: func(w http.ResponseWriter) { w.Header().Set("Location", "/elsewhere"); w.WriteHeader(303) }, status: 303, commits: true},
		"an error, then none": {
			answer: func(w http.ResponseWriter) { w.WriteHeader(503); w.WriteHeader(200) }, status: 503},
		"an answer, then an error": { // Nothing has left yet: it is an error.
			answer: func(w http.ResponseWriter) {
				w.Header().Set("Content-Length", "7")
				_, _ = io.WriteString(w, `{"half"`)
				http.Error(w, "no money", 500)
			}, status: 500, body: "no money\n"},
		"a status that is none": {
			answer: func(w http.ResponseWriter) { w.WriteHeader(0) }},
		"another protocol": {
			answer: func(w http.ResponseWriter) { w.WriteHeader(101) }, status: 101},
		"aborted": {
			answer: func(http.ResponseWriter) { panic(http.ErrAbortHandler) }},
		"aborted after an answer": {
			answer: func(w http.ResponseWriter) { _, _ = io.WriteString(w, "ok"); panic(http.ErrAbortHandler) }},
		"flushed or taken over": {
			answer: func(w http.ResponseWriter) { // It is kept, so neither is there.
				_, flushes := w.(http.Flusher)
				_, hijacks := w.(http.Hijacker)
				if flushes || hijacks {
					t.Error("what is kept could leave")
				}
			}, status: 200, commits: true},
	} {
		t.Run(name, func(t *testing.T) {
			web := httptest.NewUnstartedServer(assenthttp.Handler(client, http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
				if c.early != nil {
					c.early(w)
				}
				ctx := request.Context()
				must(t, assent.FromContext(ctx).Branch(ctx, r.names[1], r.dbs[1], add(1, 1)))
				c.answer(w)
			})))
			web.Config.ErrorLog = log.New(io.Discard, "", 0)
			web.Start()
			defer web.Close()
			before := r.value(t, 1, 1)
			tx, err := r.client.Begin(ctx)
			must(t, err)
			defer tx.Close()
			request, err := http.NewRequestWithContext(assent.NewContext(ctx, tx), http.MethodGet, web.URL, nil)
			must(t, err)
			status, body := 0, []byte(nil)
			if answer, err := (assenthttp.Transport{}).RoundTrip(request); err == nil {
				status = answer.StatusCode
				if status != http.StatusSwitchingProtocols {
					body, _ = io.ReadAll(answer.Body)
				}
				_ = answer.Body.Close()
			}
			if status != c.status || string(body) != c.body {
				t.Errorf("the caller sees %d %q", status, body)
			}
			err = tx.Commit(ctx)
			if c.commits {
				must(t, err)
				r.expectValues(t, 1, r.value(t, 0, 1), before+1)
			} else {
				expectReason(t, err, assent.GlobalRolledBack)
				r.expectValues(t, 1, r.value(t, 0, 1), before)
			}
		})
	}
}

// A handler that panics before it has a branch has failed all the same.
func TestAPanicBeforeAnyBranchRollsBack(t *testing.T) {
	r := newRig(t, kinds[0])
	tx, err := r.client.Begin(ctx)
	must(t, err)
	must(t, tx.Branch(ctx, r.names[0], r.dbs[0], add(1, 1)))
	func() {
		defer func() {
			if recover() != "out" {
				t.Error("the panic did not go on")
			}
		}()
		_ = r.client.TakePart(ctx, tx.Gtrid(), func(context.Context) error { panic("out") })
	}()
	expectReason(t, tx.Commit(ctx), assent.GlobalRolledBack)
	r.expectValues(t, 1, 100)
}

func TestAnAnswerWhoseRequestHasEndedIsNotVotedFor(t *testing.T) {
	r := newRig(t, kinds[0])
	tx, err := r.client.Begin(ctx)
	must(t, err)
	ended, cancel := context.WithCancel(ctx)
	request := httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ended)
	request.Header.Set(assent.GtridHeader, tx.Gtrid())
	answer := httptest.NewRecorder()
	assenthttp.Handler(r.client, http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		ctx := request.Context()
		must(t, assent.FromContext(ctx).Branch(ctx, r.names[1], r.dbs[1], add(1, 1)))
		cancel()
	})).ServeHTTP(answer, request)
	if answer.Code != http.StatusConflict {
		t.Error(answer.Code, answer.Body)
	}
	expectReason(t, tx.Commit(ctx), assent.GlobalRolledBack)
	r.expectValues(t, 1, 100, 100)
}
