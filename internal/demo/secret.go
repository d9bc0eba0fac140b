package demo

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

// secretFile is the name of the run's secret in its data directory.
const secretFile = "run.secret"

const secretBytes = 32

// loadSecret returns the secret of the run that is under way in dir. fresh is true when there is none.
func loadSecret(dir string) (secret []byte, fresh bool, err error) {
	path := filepath.Join(dir, secretFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, true, nil
	} else if err != nil {
		return nil, false, err
	}
	secret, err = hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(secret) != secretBytes {
		return nil, false, fmt.Errorf("%s is damaged: take the data directory away and start again", path)
	}
	return secret, false, nil
}

// newSecret makes a secret and keeps it in dir, readable by nobody else. It is durable when newSecret returns: an
// event whose secret is lost would be emitted once more under another id.
func newSecret(dir string) ([]byte, error) {
	secret := make([]byte, secretBytes)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, secretFile+".*") // made with mode 0600
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(hex.EncodeToString(secret) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, secretFile)); err != nil {
		return nil, err
	}
	return secret, syncDir(dir)
}

// removeSecret forgets the secret: from then on nobody can join the log with the files. With it goes what processes left behind that were
// killed while they made one.
func removeSecret(dir string) error {
	unfinished, err := filepath.Glob(filepath.Join(dir, secretFile+".*"))
	errs := []error{err}
	for _, path := range append(unfinished, filepath.Join(dir, secretFile)) {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) { // another process that played the same run may be faster
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, syncDir(dir))...)
}

// syncDir makes the entries of a directory durable, on systems that can.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// hasher makes ids out of the secret. It is used by one goroutine.
type hasher struct {
	mac hash.Hash
	in  []byte
	sum []byte
}

func newHasher(secret []byte) *hasher { return &hasher{mac: hmac.New(sha256.New, secret)} }

// What an id is of.
const (
	domainEvent   = 'e'
	domainStudent = 's'
	domainTeacher = 't'
)

// id is the HMAC of a thing, as a UUID of version 8 (RFC 9562, section 5.8).
func (h *hasher) id(domain byte, k kind, number int32) uuid.UUID {
	h.in = binary.BigEndian.AppendUint32(append(h.in[:0], domain, byte(k)), uint32(number))
	h.mac.Reset()
	h.mac.Write(h.in)
	h.sum = h.mac.Sum(h.sum[:0])
	id := uuid.UUID(h.sum[:16])
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return id
}

// event is the id of a planned event. It is of version 7, with the time that the envelope tells anyway, because ids that
// grow keep the store's index small and warm.
func (h *hasher) event(p *plan, e *planned) uuid.UUID {
	id := h.id(domainEvent, e.kind, e.line)
	ms := uint64(p.at(e.day).UnixMilli())
	binary.BigEndian.PutUint16(id[0:], uint16(ms>>32))
	binary.BigEndian.PutUint32(id[2:], uint32(ms))
	id[6] = id[6]&0x0f | 0x70
	return id
}

// pseudonyms are the names under which people appear in the log.
type pseudonyms struct {
	students []uuid.UUID
	teachers []uuid.UUID // one for each course
}

func newPseudonyms(p *plan, h *hasher) *pseudonyms {
	n := &pseudonyms{students: make([]uuid.UUID, len(p.students)), teachers: make([]uuid.UUID, len(p.courses))}
	for i, number := range p.students {
		n.students[i] = h.id(domainStudent, 0, number)
	}
	for i := range p.courses {
		n.teachers[i] = h.id(domainTeacher, 0, int32(i))
	}
	return n
}

// actor is who triggers e.
func (n *pseudonyms) actor(e *planned) uuid.UUID {
	if e.who >= 0 {
		return n.students[e.who]
	}
	return n.teachers[e.course]
}
