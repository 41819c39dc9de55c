// Package assent runs branches of global transactions beside the application's own SQL, over database/sql: MariaDB, MySQL
// and PostgreSQL, in any mixture. assentd takes the one decision; this package prepares, votes, and finishes each branch on
// the very connection that prepared it.
//
//	err := client.Transact(ctx, func(ctx context.Context, tx *assent.Global) error {
//		if err := tx.Branch(ctx, "orders", orders, placeOrder); err != nil {
//			return err
//		}
//		return tx.Branch(ctx, "payments", payments, takeMoney)
//	}, assent.WithSoleParticipant())
//
// Nil means committed, proven. errors.Is(err, ErrRolledBack): do the whole work again. errors.Is(err, ErrInDoubt): never do
// it again before `assentctl globals get` says how it ended. docs/go.md is the guide, docs/errors.md lists every reason.
package assent
