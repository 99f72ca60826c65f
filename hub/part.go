package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"minato.example/internal/check"
	"minato.example/internal/journal"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

// unclaimedFor is how long a part may wait for its report.
const unclaimedFor = 24 * time.Hour

// partShelf knows which parts are stored and which a report names. Parts are
// kept per member: nobody can ask whether another member has stored something.
type partShelf struct {
	mu     sync.Mutex
	stored map[string]storedPart // by partID
	named  map[string]int        // how many reports name it
	coming map[string]storedPart // uploads under way
	going  map[string]bool       // being removed
}

type storedPart struct {
	member string // empty for those of an earlier run
	time   time.Time
	size   uint64
}

func newPartShelf() partShelf {
	return partShelf{
		stored: map[string]storedPart{}, named: map[string]int{}, coming: map[string]storedPart{}, going: map[string]bool{},
	}
}

// partID is a part's name in the journal: a hash, for names are bounded there.
func partID(member string, digest []byte) string {
	id := sha256.Sum256(append([]byte(member+"/"), digest...))
	return hex.EncodeToString(id[:])
}

// claim reserves the parts of a report about to be appended, so that they are
// not removed meanwhile. release undoes it when the report was not appended.
func (s *partShelf) claim(member string, parts []*pb.Part) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var bad []rpc.Violation
	for _, p := range parts {
		if got, ok := s.stored[partID(member, p.GetDigest())]; !ok || got.size != p.GetSize() {
			bad = append(bad, violation("parts", "PART_MISSING",
				fmt.Sprintf("添付 %x がハブに届いていません。先に送ってください (自動で送り直します)。", p.GetDigest()[:4]),
				fmt.Sprintf("Part %x is not at the hub. Upload it first (the node does so by itself).", p.GetDigest()[:4])))
		}
	}
	if len(bad) > 0 {
		return nil, &rpc.Refusal{Code: codes.FailedPrecondition, Reason: "PART_MISSING", Violations: bad}
	}
	for _, p := range parts {
		s.named[partID(member, p.GetDigest())]++
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, p := range parts {
			s.named[partID(member, p.GetDigest())]--
		}
	}, nil
}

// refer notes the parts of an accepted report.
func (s *partShelf) refer(a *pb.ReportAccepted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range a.GetParts() {
		s.named[partID(a.GetSource(), p.GetDigest())]++
	}
}

// extend notes the parts that further copies of a report brought.
func (s *partShelf) extend(source string, x *pb.PlanExtended) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range x.GetParts() {
		s.named[partID(source, p.GetDigest())]++
	}
}

func (s *partShelf) put(id string, p storedPart) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored[id] = p
}

// begin makes room for an upload, or says that the part is here already. What a
// member has stored or is uploading without a report is bounded by most bytes.
func (s *partShelf) begin(id string, p storedPart, most uint64) (here bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.stored[id]; ok && have.size == p.size {
		return true, nil
	}
	if _, busy := s.coming[id]; busy || s.going[id] {
		return false, rpc.Refuse(codes.Unavailable, "PART_BUSY", "part",
			"同じ添付を処理中です。自動で送り直します。", "The same part is being handled. It is sent again by itself.")
	}
	waiting := p.size
	for _, other := range s.coming {
		if other.member == p.member {
			waiting += other.size
		}
	}
	for id, other := range s.stored {
		if s.named[id] <= 0 && other.member == p.member {
			waiting += other.size
		}
	}
	if waiting > most {
		return false, rpc.Refuse(codes.ResourceExhausted, "PARTS_WAITING", "part",
			"報告に使われていない添付が多すぎます。先に送った添付の報告を送信するか、1日待ってください。",
			"Too many uploaded parts wait for a report. Submit their reports, or wait a day.")
	}
	s.coming[id] = p
	return false, nil
}

func (s *partShelf) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.coming, id)
}

// takeUnclaimed removes from the shelf, and returns, what waited too long. Each
// is going until gone says that its bytes are removed.
func (s *partShelf) takeUnclaimed(before time.Time) (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range s.stored {
		if s.named[id] <= 0 && p.time.Before(before) {
			ids = append(ids, id)
			delete(s.stored, id)
			s.going[id] = true
		}
	}
	return ids
}

func (s *partShelf) gone(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.going, id)
}

func (h *Hub) loadParts(ctx context.Context, l *lane) error {
	return h.journal.ListParts(ctx, journal.Lane(l.kind), func(p journal.PartInfo) error {
		l.parts.put(p.ID, storedPart{time: p.Time, size: uint64(p.Size)})
		return nil
	})
}

// sweepParts removes parts that no report has named within a day.
func (h *Hub) sweepParts(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		for _, l := range h.lanes {
			for _, id := range l.parts.takeUnclaimed(time.Now().Add(-unclaimedFor)) {
				if err := h.journal.DeletePart(ctx, journal.Lane(l.kind), id); err != nil {
					h.log.WarnContext(ctx, "unclaimed part not removed", "lane", l.kind.String(), "err", err)
				}
				l.parts.gone(id)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// UploadPart stores one part, sealed, under its digest. The bytes are checked
// against the digest while they are written; a part that differs is not kept.
func (h *Hub) UploadPart(stream pb.HubService_UploadPartServer) error {
	ctx := stream.Context()
	from, err := h.sender(ctx)
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	p := first.GetPart()
	if p == nil {
		return refusal([]rpc.Violation{check.Missing("part")})
	}
	l, err := h.lane(first.GetLane())
	if err != nil {
		return err
	}
	described := &pb.Part{Digest: p.GetDigest(), Size: p.GetSize(), Class: pb.DisclosureClass_DISCLOSURE_CLASS_MESSAGE}
	if bad := check.Part("part", described, h.limits); len(bad) > 0 {
		return refusal(bad)
	}
	id := partID(from.id.member, p.GetDigest())
	part := storedPart{member: from.id.member, time: time.Now(), size: p.GetSize()}
	here, err := l.parts.begin(id, part, 2*uint64(h.limits.Parts))
	if err != nil {
		return err
	}
	if !here {
		defer l.parts.end(id)
		in := &partReader{hub: h, from: from.id, stream: stream, rest: first.GetData(), want: p, hash: sha256.New()}
		if err := h.storePart(ctx, l, id, in); err != nil {
			return err
		}
		l.parts.put(id, part)
	}
	return stream.SendAndClose(&pb.UploadPartResponse{})
}

// storePart writes an upload into the journal, durably. A part that is there
// already, from a call whose end was lost, is read and held against its digest.
func (h *Hub) storePart(ctx context.Context, l *lane, id string, in *partReader) error {
	err := h.journal.PutPart(ctx, journal.Lane(l.kind), id, in)
	if errors.As(err, new(*journal.ExistsError)) {
		err = h.verifyPart(ctx, l, id, in.want)
	}
	if r, ok := rpc.RefusalOf(in.failed); ok {
		return r
	}
	if in.failed != nil {
		return in.failed
	}
	if _, ok := rpc.RefusalOf(err); ok {
		return err
	}
	if err != nil {
		return unavailable("store part", err)
	}
	if err := h.writes.Durable(ctx); err != nil {
		return unavailable("make part durable", err)
	}
	return nil
}

func (h *Hub) verifyPart(ctx context.Context, l *lane, id string, want *pb.Part) error {
	stored, err := h.journal.OpenPart(ctx, journal.Lane(l.kind), id)
	if err != nil {
		return err
	}
	defer stored.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, stored)
	if errors.Is(err, journal.ErrDamaged) {
		// Not whole: the sender's next try stores it anew.
		return errors.Join(err, h.journal.DeletePart(ctx, journal.Lane(l.kind), id))
	}
	if err == nil && (uint64(size) != want.GetSize() || !bytes.Equal(sum.Sum(nil), want.GetDigest())) {
		return differs()
	}
	return err
}

func differs() *rpc.Refusal {
	return refusal([]rpc.Violation{violation("part", "DIGEST_MISMATCH",
		"届いた内容が SHA-256 または申告した大きさと一致しません。送り直してください。",
		"The bytes do not match their SHA-256 or announced size. Send them again.")})
}

// partReader is the bytes of an upload; it fails at the end when they are not
// those that were announced.
type partReader struct {
	hub    *Hub
	from   nodeID
	stream pb.HubService_UploadPartServer
	rest   []byte
	want   *pb.Part
	hash   hash.Hash
	size   uint64
	failed error
}

func (r *partReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		in, err := r.stream.Recv()
		if errors.Is(err, io.EOF) {
			if r.size != r.want.GetSize() || !bytes.Equal(r.hash.Sum(nil), r.want.GetDigest()) {
				return 0, r.fail(differs())
			}
			return 0, io.EOF
		}
		if err != nil {
			return 0, r.fail(err)
		}
		if _, ok := r.hub.directory().signingKey(r.from); !ok {
			return 0, r.fail(notEnrolled()) // revoked since the call began
		}
		r.rest = in.GetData()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	r.size += uint64(n)
	if r.size > r.want.GetSize() {
		return 0, r.fail(differs())
	}
	r.hash.Write(p[:n])
	return n, nil
}

func (r *partReader) fail(err error) error {
	r.failed = err
	return err
}

// DownloadPart reads one part of a report that the plan gives to the caller,
// or that the caller reported itself.
func (h *Hub) DownloadPart(req *pb.DownloadPartRequest, stream pb.HubService_DownloadPartServer) error {
	ctx := stream.Context()
	from, err := h.sender(ctx)
	if err != nil {
		return err
	}
	l, a, grants, err := h.visible(ctx, req.GetLane(), req.GetReportId(), from)
	if err != nil {
		return err
	}
	own := grants == nil && slices.ContainsFunc(a.GetParts(), func(p *pb.Part) bool { return bytes.Equal(p.GetDigest(), req.GetDigest()) })
	if !own && !slices.ContainsFunc(grants, func(g *grant) bool { return g.part(req.GetDigest()) }) {
		return notFound()
	}
	in, err := h.journal.OpenPart(ctx, journal.Lane(l.kind), partID(a.GetSource(), req.GetDigest()))
	if err != nil {
		return fmt.Errorf("open part: %w", err)
	}
	defer in.Close()
	for buf := make([]byte, 256<<10); ; {
		n, err := io.ReadFull(in, buf)
		if _, ok := h.directory().signingKey(from.id); !ok {
			return notEnrolled() // revoked since the call began
		}
		if n > 0 {
			if err := stream.Send(&pb.DownloadPartResponse{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read part: %w", err)
		}
	}
}
