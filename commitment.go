package pulse

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/google/uuid"
)

// CommitFormat is the version of the commitment's format that Commit writes, for Record.Format.
const CommitFormat = 1

// ErrTampered: a recorded event is not what its commitment was made for.
var ErrTampered = errors.New("tampered")

// Commit gives r what the event can later be proved with: fresh salts, the digests made with them, the commitment and
// the format. Everything the commitment speaks of must be set before, and not change afterwards:
//
//   - the part "fact": ID, Name, Version, OccurredAt and Data;
//   - the part "link": Actor, Key, Correlation, Causation and Trace;
//   - Origin and, again, ID, in the digest of each part.
//
// What is not in it is unproven by it: Source, Extensions, RecordedAt, IDNew, TimeGiven and whatever a store keeps of its own, such as
// row and transaction ids. Position is not in it either; the ledger proves it, as the place of the commitment in the tree. The
// bytes are fixed by docs/decisions/0001-commitment-encoding.md and testdata/commitment_vectors.json.
//
// It returns an ErrInvalid, and changes nothing, when ID or Origin is missing or OccurredAt is finer than a microsecond.
func (r *Record) Commit() error {
	var salts [64]byte
	if _, err := rand.Read(salts[:]); err != nil {
		return fmt.Errorf("commit %s: random salts: %w", r.Name, err) // cannot be: crypto/rand ends the program first
	}
	return r.commit([32]byte(salts[:32]), [32]byte(salts[32:]))
}

// commit is Commit with given salts.
func (r *Record) commit(fact, link [32]byte) error {
	if err := r.committable(); err != nil {
		return err
	}
	r.FactSalt, r.LinkSalt = fact, link
	r.Digests, r.Commitment = r.digest(make([]byte, 0, 2*sha256.Size))
	r.Format = CommitFormat
	return nil
}

// Verify recomputes digests and commitment of a whole record, one of which nothing was purged, and compares. The error is
// an ErrTampered when they differ, an ErrInvalid when r cannot have been committed or has a format this version does not know.
func (r *Record) Verify() error {
	if r.Format != CommitFormat {
		return fmt.Errorf("%w: event %s has commitment format %d and this version knows %d: verify it with a newer one",
			ErrInvalid, r.ID, r.Format, CommitFormat)
	}
	if err := r.committable(); err != nil {
		return err
	}
	var buf [2 * sha256.Size]byte
	digests, commitment := r.digest(buf[:0])
	fact, link := digests[:sha256.Size], digests[sha256.Size:]
	switch {
	case len(r.Digests) != len(digests):
		return r.tampered(fmt.Sprintf("it has %d bytes of digests, want %d", len(r.Digests), len(digests)))
	case !hmac.Equal(r.Digests[:sha256.Size], fact):
		return r.tampered("id, name, version, time or payload is not what was committed, or the log's name or the salt is another")
	case !hmac.Equal(r.Digests[sha256.Size:], link):
		return r.tampered("actor, key, correlation, causation or trace is not what was committed, or the salt is another")
	case !hmac.Equal(r.Commitment[:], commitment[:]):
		return r.tampered("the commitment is not the digests'")
	}
	return nil
}

func (r *Record) tampered(what string) error {
	return fmt.Errorf("%w: event %s of %s: %s: compare with a backup and with who holds checkpoints", ErrTampered, r.ID, r.Origin, what)
}

func (r *Record) committable() error {
	switch {
	case r.ID == uuid.Nil:
		return fmt.Errorf("%w: commit %s: the event has no id: give it one first", ErrInvalid, r.Name)
	case r.Origin == "":
		return fmt.Errorf("%w: commit %s: the log's name is missing: set Origin to that of Store.Info", ErrInvalid, r.Name)
	case r.OccurredAt.Nanosecond()%1000 != 0:
		return fmt.Errorf("%w: commit %s: the time %s is finer than a microsecond: truncate it", ErrInvalid, r.Name, r.OccurredAt)
	}
	return nil
}

// The names of the parts, in part order.
const (
	partFact = "fact"
	partLink = "link"
)

// roomy is enough for what is hashed of a usual event: one that needs more costs an allocation.
const roomy = 1536

// digest appends the digests of r's parts to dst and returns them with the commitment to them.
func (r *Record) digest(dst []byte) (digests []byte, commitment [32]byte) {
	var array [roomy]byte
	buf := append(array[:0], make([]byte, sha256.BlockSize)...)
	buf = r.appendFactInput(buf)
	fact := saltedHash(&r.FactSalt, buf)
	buf = r.appendLinkInput(buf[:sha256.BlockSize])
	link := saltedHash(&r.LinkSalt, buf)
	dst = append(append(dst, fact[:]...), link[:]...)
	return dst, sha256.Sum256(appendCommitInput(buf[:0], dst))
}

// saltedHash is HMAC-SHA-256 (RFC 2104) with a salt of 32 bytes over what follows the first block of buf; the block is scratch.
// crypto/hmac makes two hashes and their saved states for each key, and each of our keys is used once.
func saltedHash(salt *[32]byte, buf []byte) [32]byte {
	var outer [sha256.BlockSize + sha256.Size]byte
	for i := range sha256.BlockSize {
		var k byte
		if i < len(salt) {
			k = salt[i]
		}
		buf[i] = k ^ 0x36
		outer[i] = k ^ 0x5c
	}
	inner := sha256.Sum256(buf)
	copy(outer[sha256.BlockSize:], inner[:])
	return sha256.Sum256(outer[:])
}

// appendFactInput appends what the digest of the fact part is made over.
func (r *Record) appendFactInput(b []byte) []byte {
	b, length := appendPartHead(b, r, partFact)
	b = r.appendFact(b)
	return fillLength(b, length)
}

// appendLinkInput appends what the digest of the link part is made over.
func (r *Record) appendLinkInput(b []byte) []byte {
	b, length := appendPartHead(b, r, partLink)
	b = r.appendLink(b)
	return fillLength(b, length)
}

// appendPartHead appends LP("pulse/part/v1", origin, event id, part name) and room for the length of the content; length is
// where that is.
func appendPartHead(b []byte, r *Record, part string) (head []byte, length int) {
	b = appendString(b, "pulse/part/v1")
	b = appendString(b, r.Origin)
	b = appendUUID(b, r.ID)
	b = appendString(b, part)
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0), len(b)
}

// fillLength writes the number of bytes behind the length into it.
func fillLength(b []byte, length int) []byte {
	binary.BigEndian.PutUint64(b[length:], uint64(len(b)-length-8))
	return b
}

// appendFact appends LP(event id, name, version, occurred-at, public JSON bytes).
func (r *Record) appendFact(b []byte) []byte {
	b = appendUUID(b, r.ID)
	b = appendString(b, r.Name)
	b = appendInt(b, int64(r.Version))
	b = appendInt(b, r.OccurredAt.UnixMicro())
	b = binary.BigEndian.AppendUint64(b, uint64(len(r.Data)))
	return append(b, r.Data...)
}

// appendLink appends LP(actor, key, correlation, causation, traceparent), each of them optional.
func (r *Record) appendLink(b []byte) []byte {
	b = appendOptionalUUID(b, r.Actor)
	b = appendOptional(b, r.Key)
	b = appendOptional(b, r.Correlation)
	b = appendOptionalUUID(b, r.Causation)
	return appendOptional(b, r.Trace)
}

// appendCommitInput appends LP("pulse/commit/v1", then part name, D, B for each part). B is empty, not absent, as neither
// part is sealed.
func appendCommitInput(b, digests []byte) []byte {
	b = appendString(b, "pulse/commit/v1")
	for i, part := range [...]string{partFact, partLink} {
		b = appendString(b, part)
		b = appendString(b, string(digests[i*sha256.Size:(i+1)*sha256.Size]))
		b = appendString(b, "")
	}
	return b
}

// The items of LP: a length of 8 bytes, big-endian, and the bytes.

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
	return append(b, s...)
}

func appendInt(b []byte, n int64) []byte {
	b = binary.BigEndian.AppendUint64(b, 8)
	return binary.BigEndian.AppendUint64(b, uint64(n))
}

func appendUUID(b []byte, id uuid.UUID) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(len(id)))
	return append(b, id[:]...)
}

// absent stands for the length of an item that is not there, and has no bytes.
const absent = math.MaxUint64

func appendOptional(b []byte, s string) []byte {
	if s == "" {
		return binary.BigEndian.AppendUint64(b, absent)
	}
	return appendString(b, s)
}

func appendOptionalUUID(b []byte, id uuid.UUID) []byte {
	if id == uuid.Nil {
		return binary.BigEndian.AppendUint64(b, absent)
	}
	return appendUUID(b, id)
}
