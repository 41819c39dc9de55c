// Command bankworker is a worker of the bank (tests/bank) in Go: random transfers between two servers, each written to a
// journal, until SIGTERM; then it waits for the coordinator to know how they ended. It does what tests/bank/bank_worker.cc
// does, so that both can work at the same bank.
//
//	bankworker BANK.CONF JOURNAL FIRST_ID LAST_ID SEED
//
// ASSENT_BANK_STRIDE (default 1) is the step from one transfer's id to the next.
package main

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"assent.example/assent"
)

const failFraction = 0.1

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bankworker:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 5 {
		return fmt.Errorf("usage: bankworker BANK.CONF JOURNAL FIRST_ID LAST_ID SEED")
	}
	bank, err := loadBank(arguments[0])
	if err != nil {
		return err
	}
	journal, err := os.OpenFile(arguments[1], os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer journal.Close()
	var numbers [3]int64
	for i := range numbers {
		if numbers[i], err = strconv.ParseInt(arguments[2+i], 10, 64); err != nil {
			return err
		}
	}
	stride, err := strconv.ParseInt(os.Getenv("ASSENT_BANK_STRIDE"), 10, 64)
	if err != nil {
		stride = 1
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	client, err := assent.NewClient(bank.coordinator)
	if err != nil {
		return err
	}
	defer client.Close()
	teller, err := newTeller(bank, client)
	if err != nil {
		return err
	}
	defer teller.close()
	random := rand.New(rand.NewSource(numbers[2]))
	for id := numbers[0]; id <= numbers[1] && stop.Err() == nil; id += stride {
		entry := teller.transfer(randomTransfer(id, bank.accounts, random))
		if entry.gtrid == "" {
			time.Sleep(20 * time.Millisecond) // Something is away: it is not asked without a pause.
		}
		if _, err := journal.WriteString(entry.line()); err != nil { // One write: whole lines only.
			return err
		}
	}
	patience, done := context.WithTimeout(context.Background(), 30*time.Second)
	defer done()
	if !client.Flush(patience) {
		return fmt.Errorf("the coordinator could not be told how all branches ended")
	}
	return nil
}

func randomTransfer(id, accounts int64, random *rand.Rand) transfer {
	out := transfer{id: id, from: random.Int63n(accounts/2) * 2, to: random.Int63n(accounts/2)*2 + 1, amount: 1 + random.Int63n(20)}
	if random.Intn(2) == 0 {
		out.from, out.to = out.to, out.from
	}
	if random.Float64() < failFraction {
		out.fail = allFailures[random.Intn(len(allFailures))]
	}
	return out
}
