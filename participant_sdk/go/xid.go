package assent

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"
)

const (
	// FormatID is the XA format id of every branch of Assent's: "ASNT". It never changes.
	FormatID = 0x41534E54

	maxIDBytes   = 64
	ulidAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	ulidSize     = 26
	ulidTimeSize = 10
	blockDigits  = 4
)

// xid names one branch.
type xid struct{ gtrid, bqual string }

func isIDByte(c byte) bool {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		c == '.' || c == '_' || c == ':' || c == '-'
}

// idProblem says what is wrong with an id, without repeating bytes that may be anything; empty: nothing.
func idProblem(id string) string {
	switch {
	case id == "":
		return "is empty"
	case len(id) > maxIDBytes:
		return fmt.Sprintf("has %d bytes", len(id))
	}
	for i := 0; i < len(id); i++ {
		if !isIDByte(id[i]) {
			return fmt.Sprintf("has the byte 0x%02x at position %d", id[i], i)
		}
	}
	return ""
}

func validateID(id string, reason Reason, field string) error {
	problem := idProblem(id)
	if problem == "" {
		return nil
	}
	return newError(reason, field+" "+problem+"; it must be 1 to 64 bytes of [A-Za-z0-9._:-]",
		map[string]string{"field": field, "problem": problem})
}

func validateGtrid(gtrid string) error { return validateID(gtrid, InvalidGtrid, "gtrid") }
func validateBqual(bqual string) error { return validateID(bqual, InvalidBqual, "bqual") }

func (x xid) validate() error {
	if err := validateGtrid(x.gtrid); err != nil {
		return err
	}
	return validateBqual(x.bqual)
}

// sql is the xid in XA statements: in hexadecimal, so that no byte needs quoting.
func (x xid) sql() string {
	return hexLiteral(x.gtrid) + "," + hexLiteral(x.bqual) + "," + strconv.Itoa(FormatID)
}

func hexLiteral(text string) string { return "X'" + hex.EncodeToString([]byte(text)) + "'" }

// gid is PostgreSQL's one name for it.
func (x xid) gid() string { return strconv.Itoa(FormatID) + "/" + x.gtrid + "/" + x.bqual }

// advisoryLock is what a running branch holds shared on PostgreSQL, so that anybody can see which session runs it.
func (x xid) advisoryLock() int32 {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(x.gtrid + "/" + x.bqual))
	return int32(hash.Sum32())
}

// gtridOfBlock is the index-th id of a block of ReserveGtrids.
func gtridOfBlock(block string, index int) string {
	digits := make([]byte, blockDigits)
	for i := blockDigits - 1; i >= 0; i, index = i-1, index>>5 {
		digits[i] = ulidAlphabet[index&31]
	}
	return block + string(digits)
}

// birthOf answers when a gtrid `<cluster>-<ULID>` was made; false: it is none.
func birthOf(gtrid string) (time.Time, bool) {
	dash := strings.IndexByte(gtrid, '-')
	if dash < 0 || len(gtrid) != dash+1+ulidSize {
		return time.Time{}, false
	}
	var ms int64
	for i, letter := range []byte(gtrid[dash+1:]) {
		digit := strings.IndexByte(ulidAlphabet, letter)
		if digit < 0 || (i == 0 && digit > 7) {
			return time.Time{}, false
		}
		if i < ulidTimeSize {
			ms = ms<<5 | int64(digit)
		}
	}
	return time.UnixMilli(ms), true
}

// newRequestID is a random UUID (version 4).
func newRequestID() string {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic("assent: no randomness: " + err.Error()) // Ids would collide: there is no way to go on.
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	text := hex.EncodeToString(b[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}

// witnessTable is the name of a witness table, read once and then safe to put into SQL. Empty: no witness.
type witnessTable struct{ schema, table string }

func isWitnessName(part string) bool {
	for i := 0; i < len(part); i++ {
		if c := part[i]; c == '.' || c == ':' || (c != '$' && !isIDByte(c)) {
			return false
		}
	}
	return part != "" && len(part) <= 64
}

func parseWitnessTable(name string) (witnessTable, error) {
	schema, table, _ := strings.Cut(name, ".")
	if !isWitnessName(schema) || !isWitnessName(table) {
		return witnessTable{}, newError(InvalidField,
			"witness_table must be schema.table, each part 1 to 64 bytes of [A-Za-z0-9_$-]",
			map[string]string{"field": "witness_table"})
	}
	return witnessTable{schema, table}, nil
}

func (w witnessTable) exists() bool { return w.table != "" }

func (w witnessTable) name() string {
	if !w.exists() {
		return ""
	}
	return w.schema + "." + w.table
}

func (w witnessTable) quoted() string { return "`" + w.schema + "`.`" + w.table + "`" }

// insertSQL leaves the witness of a valid xid. wrap may make the value of bqual an expression that is it, or fails.
func (w witnessTable) insertSQL(x xid, wrap func(value string) string) string {
	return "INSERT INTO " + w.quoted() + " (gtrid, bqual) VALUES (" + hexLiteral(x.gtrid) + ", " + wrap(hexLiteral(x.bqual)) + ")"
}

// whyRefused is what it means that the server refuses insertSQL with this code, and what to do, where that is known.
// (None of these codes is an answer to XA END or XA PREPARE.)
func (w witnessTable) whyRefused(code int) (why string, known bool) {
	why = "the witness row could not be written"
	switch code {
	case erDBAccessDenied, erTableAccessDenied, erColumnAccessDenied:
		return why + " (every account that runs branches needs it: GRANT INSERT ON " + w.quoted() + ")", true
	case erNoSuchDatabase, erNoSuchTable:
		return why + " (its table is gone: assentctl resources register NAME --replace makes it)", true
	}
	return why, false
}
