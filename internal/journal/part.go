package journal

import (
	"bufio"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	pb "minato.example/proto/minato/v1"
)

// A stored part is a random salt and chunks sealed with AES-256-GCM under a key
// derived for this part alone. The nonce counts the chunks and marks the last
// one (the STREAM construction), so chunks cannot be cut off, reordered or
// moved to another part unnoticed.
const (
	saltSize  = 32
	chunkSize = 64 << 10
	tagSize   = 16
)

// PartInfo describes a stored part.
type PartInfo struct {
	ID   string
	Size int64 // bytes of the part itself
	Time time.Time
}

// PutPart stores what r gives, sealed, under an id. When r fails nothing is
// kept.
func (j *Journal) PutPart(ctx context.Context, lane pb.Lane, id string, r io.Reader) error {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	aead, err := j.partCipher(salt, id)
	if err != nil {
		return err
	}
	in := &sealing{in: bufio.NewReaderSize(r, chunkSize+1), aead: aead, id: id, out: salt, buf: make([]byte, chunkSize)}
	if _, err := j.objects[lane].Put(ctx, jetstream.ObjectMeta{Name: id}, in); err != nil {
		var api *jetstream.APIError
		if errors.As(err, &api) && (api.ErrorCode == errCodeResources || api.ErrorCode == errCodeStorageExceeded || api.ErrorCode == errCodeAccountExceeded) {
			return ErrFull
		}
		return fmt.Errorf("store part: %w", err)
	}
	return nil
}

// OpenPart reads a part, or gives ErrNotFound. Damage shows as an error before
// any of the damaged bytes are handed over.
func (j *Journal) OpenPart(ctx context.Context, lane pb.Lane, id string) (io.ReadCloser, error) {
	o, err := j.objects[lane].Get(ctx, id)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("open part: %w", err)
	}
	salt := make([]byte, saltSize)
	if _, err := io.ReadFull(o, salt); err != nil {
		o.Close()
		return nil, fmt.Errorf("open part: %w", err)
	}
	aead, err := j.partCipher(salt, id)
	if err != nil {
		o.Close()
		return nil, err
	}
	return &opening{object: o, in: bufio.NewReaderSize(o, chunkSize+tagSize+1), aead: aead, id: id, buf: make([]byte, chunkSize+tagSize)}, nil
}

// DeletePart removes a part; one that is not there is no error.
func (j *Journal) DeletePart(ctx context.Context, lane pb.Lane, id string) error {
	if err := j.objects[lane].Delete(ctx, id); err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
		return fmt.Errorf("remove part: %w", err)
	}
	return nil
}

// ListParts hands every stored part to fn.
func (j *Journal) ListParts(ctx context.Context, lane pb.Lane, fn func(PartInfo) error) error {
	all, err := j.objects[lane].List(ctx)
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list parts: %w", err)
	}
	for _, o := range all {
		if err := fn(PartInfo{ID: o.Name, Size: plainSize(int64(o.Size)), Time: o.ModTime}); err != nil {
			return err
		}
	}
	return nil
}

// plainSize is the size of a part by that of its sealed form.
func plainSize(sealed int64) int64 {
	sealed -= saltSize
	chunks := (sealed + chunkSize + tagSize - 1) / (chunkSize + tagSize)
	return sealed - chunks*tagSize
}

func (j *Journal) partCipher(salt []byte, id string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, j.key, salt, "minato part "+id, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// nonce is the number of a chunk and whether it is the last.
func nonce(n uint64, last bool) []byte {
	b := make([]byte, 12)
	binary.BigEndian.PutUint64(b[3:11], n)
	if last {
		b[11] = 1
	}
	return b
}

// sealing reads the sealed form of in.
type sealing struct {
	in   *bufio.Reader
	aead cipher.AEAD
	id   string
	n    uint64
	buf  []byte
	out  []byte // not yet handed over
	end  bool
}

func (s *sealing) Read(p []byte) (int, error) {
	if len(s.out) == 0 {
		if s.end {
			return 0, io.EOF
		}
		n, err := io.ReadFull(s.in, s.buf)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, err
		}
		if err == nil {
			_, err = s.in.Peek(1)
			if err != nil && !errors.Is(err, io.EOF) {
				return 0, err
			}
		}
		s.end = err != nil
		s.out = s.aead.Seal(nil, nonce(s.n, s.end), s.buf[:n], []byte(s.id))
		s.n++
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}

// opening reads the plain form of a stored part.
type opening struct {
	object io.Closer
	in     *bufio.Reader
	aead   cipher.AEAD
	id     string
	n      uint64
	buf    []byte
	out    []byte
	end    bool
}

func (o *opening) Read(p []byte) (int, error) {
	for len(o.out) == 0 {
		if o.end {
			return 0, io.EOF
		}
		n, err := io.ReadFull(o.in, o.buf)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, fmt.Errorf("read part: %w", err)
		}
		if err == nil {
			_, err = o.in.Peek(1)
		}
		o.end = err != nil
		if o.out, err = o.aead.Open(o.buf[:0], nonce(o.n, o.end), o.buf[:n], []byte(o.id)); err != nil {
			return 0, errors.New("read part: the stored part is damaged")
		}
		o.n++
	}
	n := copy(p, o.out)
	o.out = o.out[n:]
	return n, nil
}

func (o *opening) Close() error { return o.object.Close() }
