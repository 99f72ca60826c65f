package hub

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/ca"
	"minato.example/internal/check"
	"minato.example/internal/journal"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

// change appends one change of the directory, waits until it is durable, and
// puts it in force. decide sees the directory that the change will follow.
func (h *Hub) change(ctx context.Context, decide func(*directory) (*pb.DirectoryChange, error)) error {
	h.changing.Lock()
	defer h.changing.Unlock()
	dir, err := h.fold(ctx, h.dir.Load())
	if err != nil {
		return unavailable("read changes of the directory", err)
	}
	if dir != h.dir.Load() {
		// A change that was appended while its caller heard of a failure: it
		// counts, and without it no later one could be appended.
		if err := h.writes.Durable(ctx); err != nil {
			return unavailable("make change of the directory durable", err)
		}
		h.dir.Store(dir)
	}
	now := time.Now()
	c, err := decide(dir.at(now))
	if c == nil || err != nil {
		return err
	}
	c.ChangeTime = timestamppb.New(now)
	data, err := proto.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode change: %w", err)
	}
	// What is appended comes into force, even when the caller has gone away.
	ctx = context.WithoutCancel(ctx)
	position, err := h.writes.Append(ctx, journal.Directory, fmt.Sprintf("change.%d", dir.revision+1), data)
	if err != nil {
		return unavailable("append change of the directory", err)
	}
	if err := h.writes.Durable(ctx); err != nil {
		return unavailable("make change of the directory durable", err)
	}
	next, err := dir.apply(position, c)
	if err != nil {
		return err
	}
	h.dir.Store(next)
	return nil
}

// loadDirectory folds the directory from the journal.
func (h *Hub) loadDirectory(ctx context.Context) error {
	dir, err := h.fold(ctx, newDirectory())
	if err != nil {
		return err
	}
	if dir.port != h.config.Port {
		return fmt.Errorf("the journal belongs to port %q, the configuration names %q", dir.port, h.config.Port)
	}
	h.dir.Store(dir)
	return nil
}

// fold applies the changes that the journal holds beyond dir.
func (h *Hub) fold(ctx context.Context, dir *directory) (*directory, error) {
	last, err := h.journal.Position(ctx, journal.Directory)
	if err != nil || last == dir.revision {
		return dir, err
	}
	return h.foldTo(ctx, dir, last)
}

// foldTo applies the changes beyond dir up to a revision.
func (h *Hub) foldTo(ctx context.Context, dir *directory, last uint64) (*directory, error) {
	err := h.journal.ReadTo(ctx, journal.Directory, dir.revision, last, func(r journal.Record) (err error) {
		c := new(pb.DirectoryChange)
		if err := proto.Unmarshal(r.Data, c); err != nil {
			return fmt.Errorf("directory revision %d: %w", r.Seq, err)
		}
		dir, err = dir.apply(r.Seq, c)
		return err
	})
	return dir, err
}

// Invite admits a member, or one more node of it, and returns the one-time
// token. The hub keeps the token's public key only.
func (h *Hub) Invite(ctx context.Context, req *pb.InviteRequest) (*pb.InviteResponse, error) {
	ttl := 24 * time.Hour
	if req.GetTtl() != nil {
		ttl = req.GetTtl().AsDuration()
	}
	if bad := checkInvite(req, ttl); len(bad) > 0 {
		return nil, refusal(bad)
	}
	for key, addr := range map[string]string{"address": h.config.Address, "nats_address": h.natsAddress()} {
		if host, _, err := net.SplitHostPort(addr); addr != "" && (err != nil || host == "" || net.ParseIP(host).IsUnspecified()) {
			return nil, rpc.Refuse(codes.FailedPrecondition, "ADDRESS_UNUSABLE", key,
				fmt.Sprintf("会員がつなぐ先として %q は使えません。hub.toml の %s に会員から見えるホスト名:ポートを書き、ハブを起動し直してください。", addr, key),
				fmt.Sprintf("Members cannot connect to %q. Set %s in hub.toml to a host:port that they can reach and restart the hub.", addr, key))
		}
	}
	tok, err := ca.NewToken(rand.Reader, h.config.Address, ca.Pin(h.ca.Certificate()))
	if err != nil {
		return nil, fmt.Errorf("make token: %w", err)
	}
	err = h.change(ctx, func(d *directory) (*pb.DirectoryChange, error) {
		if m, ok := d.members[req.GetMember()]; ok {
			if err := sameMember(m, req, d.port); err != nil {
				return nil, err
			}
		} else if req.GetName() == "" || req.GetRole() == pb.Role_ROLE_UNSPECIFIED {
			return nil, refusal([]rpc.Violation{violation("name", "MEMBER_INCOMPLETE",
				"新しい会員には --name と --role が必要です。", "A new member needs --name and --role.")})
		}
		in := &pb.Invited{
			Member: req.GetMember(), Name: req.GetName(), Role: req.GetRole(), Communities: req.GetCommunities(),
			TokenKey: tok.Key.Public().(ed25519.PublicKey), ExpireTime: timestamppb.New(time.Now().Add(ttl)),
		}
		if m, ok := d.members[req.GetMember()]; ok {
			in.Name, in.Role, in.Communities = m.GetName(), m.GetRole(), m.GetCommunities()
		}
		return &pb.DirectoryChange{Change: &pb.DirectoryChange_Invited{Invited: in}}, nil
	})
	if err != nil {
		return nil, err
	}
	h.log.InfoContext(ctx, "member invited", "member", req.GetMember())
	return &pb.InviteResponse{Token: tok.String()}, nil
}

func checkInvite(req *pb.InviteRequest, ttl time.Duration) (bad []rpc.Violation) {
	for _, id := range append([]string{req.GetMember()}, req.GetCommunities()...) {
		if !ca.ValidID(id) {
			bad = append(bad, violation("member", "ID_INVALID",
				fmt.Sprintf("ID %q は使えません。a-z, 0-9, ハイフンで1～63文字にしてください。", id),
				fmt.Sprintf("Id %q cannot be used: 1 to 63 characters of a-z, 0-9 and hyphen.", id)))
		}
	}
	if ttl < time.Minute || ttl > 30*24*time.Hour {
		bad = append(bad, violation("ttl", "TTL_INVALID",
			"--ttl は1分から30日 (720h) までです。", "--ttl must be between 1 minute and 30 days (720h)."))
	}
	if len(req.GetName()) > 200 {
		bad = append(bad, violation("name", "TEXT_TOO_LONG", "名前は200バイトまでです。", "The name may have 200 bytes."))
	}
	return bad
}

// sameMember lets a known member be invited again, for another node, only as
// what it is.
func sameMember(m *pb.Member, req *pb.InviteRequest, port string) error {
	if m.GetState() == pb.MemberState_MEMBER_STATE_REVOKED {
		return rpc.Refuse(codes.FailedPrecondition, "MEMBER_REVOKED", "member",
			fmt.Sprintf("会員 %q は取り消されています。戻すときは新しい ID で招待してください。", m.GetId()),
			fmt.Sprintf("Member %q has been revoked. Invite it again under a new id.", m.GetId()))
	}
	differs := (req.GetName() != "" && req.GetName() != m.GetName()) ||
		(req.GetRole() != pb.Role_ROLE_UNSPECIFIED && req.GetRole() != m.GetRole()) ||
		(len(req.GetCommunities()) > 0 && !slices.Equal(withPort(port, req.GetCommunities()), m.GetCommunities()))
	if differs {
		return rpc.Refuse(codes.AlreadyExists, "MEMBER_EXISTS", "member",
			fmt.Sprintf("会員 %q は別の名前・役割・共有範囲で登録されています。ノードを追加するなら --member だけを指定してください。", m.GetId()),
			fmt.Sprintf("Member %q is registered with another name, role or community. To add a node give --member alone.", m.GetId()))
	}
	return nil
}

// Join exchanges a one-time token for a certificate. The proof is a signature
// by the token's key over the TLS exporter of this connection, so a token that
// was overheard on another connection is worth nothing. A wrong proof burns
// the token.
func (h *Hub) Join(ctx context.Context, req *pb.JoinRequest) (*pb.JoinResponse, error) {
	exporter, err := rpc.Exporter(ctx)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	if len(req.GetSigningKey()) != ed25519.PublicKeySize || len(req.GetTokenKey()) != ed25519.PublicKeySize {
		return nil, refusal([]rpc.Violation{violation("signing_key", "KEY_INVALID", "鍵が正しくありません。", "The key is not valid.")})
	}
	live, err := h.journal.Position(ctx, journal.LiveReports)
	if err != nil {
		return nil, unavailable("read position", err)
	}
	exercise, err := h.journal.Position(ctx, journal.ExerciseReports)
	if err != nil {
		return nil, unavailable("read position", err)
	}
	var cert []byte
	var node nodeID
	var refused error
	err = h.change(ctx, func(d *directory) (*pb.DirectoryChange, error) {
		t, err := openToken(d, req.GetTokenKey())
		if err != nil {
			return nil, err
		}
		if !ca.CheckProof(req.GetTokenKey(), exporter, req.GetCertificateRequest(), req.GetSigningKey(), req.GetProof()) {
			refused = tokenRefused("TOKEN_WRONG", "参加トークンの証明が正しくありません。このトークンは無効になりました。管理者に新しいものを求めてください。",
				"The token's proof is wrong. The token is burnt. Ask the administrator for a new one.")
			return &pb.DirectoryChange{Change: &pb.DirectoryChange_TokenBurnt{TokenBurnt: &pb.TokenBurnt{TokenKey: req.GetTokenKey()}}}, nil
		}
		node = nodeID{t.member, uint32(len(d.members[t.member].GetNodes())) + 1}
		cert, err = h.ca.IssueNode(req.GetCertificateRequest(), node.member, node.number, time.Now())
		if err != nil {
			return nil, refusal([]rpc.Violation{violation("certificate_request", "CSR_INVALID",
				"証明書の要求が正しくありません (P-256 の PKCS#10)。", "The certificate request is not valid (PKCS#10, P-256).")})
		}
		return &pb.DirectoryChange{Change: &pb.DirectoryChange_Joined{Joined: &pb.Joined{
			Member: node.member, Node: node.number, TokenKey: req.GetTokenKey(), SigningKey: req.GetSigningKey(),
			LivePosition: live, ExercisePosition: exercise,
		}}}, nil
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		h.log.WarnContext(ctx, "join refused", "err", err)
		return nil, err
	}
	h.log.InfoContext(ctx, "node joined", "member", node.member, "node", node.number)
	if err := h.backlog(ctx, node.member); err != nil {
		h.log.WarnContext(ctx, "backlog not complete, tried again at the next start", "member", node.member, "err", err)
	}
	return &pb.JoinResponse{
		Certificate: cert, CaCertificate: h.ca.Certificate().Raw, HubKey: h.key.Public().(ed25519.PublicKey), PortId: h.config.Port,
		Member: h.directory().members[node.member], Node: node.number, NatsAddress: h.natsAddress(),
	}, nil
}

// openToken finds a token that may still be used.
func openToken(d *directory, key []byte) (token, error) {
	t, ok := d.tokens[string(key)]
	switch {
	case !ok:
		return t, tokenRefused("TOKEN_UNKNOWN", "この参加トークンはハブに登録されていません。管理者に新しいものを求めてください。",
			"The hub does not know this token. Ask the administrator for a new one.")
	case t.state == tokenUsed:
		return t, tokenRefused("TOKEN_USED", "この参加トークンは既に使われています。心当たりがなければ、すぐに管理者へ連絡してください。",
			"This token has been used already. If it was not you, tell the administrator at once.")
	case t.state == tokenBurnt:
		return t, tokenRefused("TOKEN_BURNT", "この参加トークンは無効です。管理者に新しいものを求めてください。",
			"This token is no longer valid. Ask the administrator for a new one.")
	case time.Now().After(t.expire):
		return t, tokenRefused("TOKEN_EXPIRED", "この参加トークンは期限切れです。管理者に新しいものを求めてください。",
			"This token has expired. Ask the administrator for a new one.")
	}
	return t, nil
}

func tokenRefused(reason, ja, en string) error {
	return rpc.Refuse(codes.PermissionDenied, reason, "token", ja, en)
}

// RenewCertificate gives the calling node a new certificate for a new key.
func (h *Hub) RenewCertificate(ctx context.Context, req *pb.RenewCertificateRequest) (*pb.RenewCertificateResponse, error) {
	from, err := h.sender(ctx)
	if err != nil {
		return nil, err
	}
	cert, err := h.ca.IssueNode(req.GetCertificateRequest(), from.id.member, from.id.number, time.Now())
	if err != nil {
		return nil, refusal([]rpc.Violation{violation("certificate_request", "CSR_INVALID",
			"証明書の要求が正しくありません (P-256 の PKCS#10)。", "The certificate request is not valid (PKCS#10, P-256).")})
	}
	h.log.InfoContext(ctx, "certificate renewed", "member", from.id.member, "node", from.id.number)
	return &pb.RenewCertificateResponse{Certificate: cert}, nil
}

// Revoke puts a member out: the change is durable and in force, its sessions
// and connections are closed, when Revoke returns.
func (h *Hub) Revoke(ctx context.Context, req *pb.RevokeRequest) (*pb.RevokeResponse, error) {
	err := h.change(ctx, func(d *directory) (*pb.DirectoryChange, error) {
		m, ok := d.members[req.GetMember()]
		if !ok {
			return nil, rpc.Refuse(codes.NotFound, "MEMBER_UNKNOWN", "member",
				fmt.Sprintf("会員 %q はいません。一覧: minato hub members", req.GetMember()),
				fmt.Sprintf("There is no member %q. See: minato hub members", req.GetMember()))
		}
		if m.GetState() == pb.MemberState_MEMBER_STATE_REVOKED {
			return nil, nil
		}
		return &pb.DirectoryChange{Change: &pb.DirectoryChange_Revoked{Revoked: &pb.Revoked{Member: req.GetMember(), Reason: req.GetReason()}}}, nil
	})
	if err != nil {
		return nil, err
	}
	h.closeSessions(req.GetMember(), errRevoked)
	h.journal.Disconnect(func(user string) bool {
		member, _, _ := strings.Cut(user, "/")
		return member == req.GetMember()
	})
	h.log.InfoContext(ctx, "member revoked", "member", req.GetMember())
	return &pb.RevokeResponse{}, nil
}

// ListMemberStates reads the directory as the administrator sees it.
func (h *Hub) ListMemberStates(_ context.Context, req *pb.ListMemberStatesRequest) (*pb.ListMemberStatesResponse, error) {
	page, next := pageOf(h.directory().sorted(), req.GetPageSize(), req.GetPageToken())
	resp := &pb.ListMemberStatesResponse{NextPageToken: next}
	for _, m := range page {
		resp.Members = append(resp.Members, &pb.MemberStanding{Member: m, Sessions: h.sessionsOf(m.GetId())})
	}
	return resp, nil
}

func (h *Hub) sessionsOf(member string) (n uint32) {
	for _, l := range h.lanes {
		l.mu.Lock()
		for node := range l.sessions {
			if node.member == member {
				n++
			}
		}
		l.mu.Unlock()
	}
	return n
}

// allowances let each member do something 30 times at once and then once in ten
// minutes.
type allowances struct {
	mu   sync.Mutex
	left map[string]*rate.Limiter
}

func (a *allowances) allow(member string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.left == nil {
		a.left = map[string]*rate.Limiter{}
	}
	l, ok := a.left[member]
	if !ok {
		l = rate.NewLimiter(rate.Every(10*time.Minute), 30)
		a.left[member] = l
	}
	return l.Allow()
}

// SetProfile replaces what the calling member says of itself.
func (h *Hub) SetProfile(ctx context.Context, req *pb.SetProfileRequest) (*pb.SetProfileResponse, error) {
	from, err := h.sender(ctx)
	if err != nil {
		return nil, err
	}
	if bad := checkProfile(req.GetProfile()); len(bad) > 0 {
		return nil, refusal(bad)
	}
	err = h.change(ctx, func(d *directory) (*pb.DirectoryChange, error) {
		if proto.Equal(d.members[from.id.member].GetProfile(), req.GetProfile()) {
			return nil, nil
		}
		if !h.profiles.allow(from.id.member) {
			return nil, rpc.Refuse(codes.ResourceExhausted, "PROFILE_TOO_OFTEN", "profile",
				"プロフィールの変更が多すぎます。10分ほど待ってやり直してください。",
				"The profile is changed too often. Wait ten minutes and try again.")
		}
		return &pb.DirectoryChange{Change: &pb.DirectoryChange_ProfileSet{ProfileSet: &pb.ProfileSet{Member: from.id.member, Profile: req.GetProfile()}}}, nil
	})
	if err != nil {
		return nil, err
	}
	return &pb.SetProfileResponse{}, nil
}

// maxProfile bounds a profile, in bytes: every change is kept for good.
const maxProfile = 64 << 10

func checkProfile(p *pb.Profile) (bad []rpc.Violation) {
	if p == nil {
		return []rpc.Violation{check.Missing("profile")}
	}
	if proto.Size(p) > maxProfile {
		return []rpc.Violation{violation("profile", "PROFILE_TOO_LARGE",
			fmt.Sprintf("プロフィールが大きすぎます (上限 %d バイト)。窓口や担当者を減らしてください。", maxProfile),
			fmt.Sprintf("The profile is too large (at most %d bytes). List fewer contacts or persons.", maxProfile))}
	}
	bad = check.Message("profile", p.ProtoReflect(), false)
	seen := map[string]bool{}
	for i, person := range p.GetPersons() {
		field := fmt.Sprintf("profile.persons[%d]", i)
		if !ca.ValidID(person.GetId()) || person.GetName() == "" {
			bad = append(bad, violation(field, "PERSON_INVALID",
				"担当者には ID (a-z, 0-9, ハイフン) と氏名が必要です。", "A person needs an id (a-z, 0-9, hyphen) and a name."))
		}
		if seen[person.GetId()] {
			bad = append(bad, violation(field, "PERSON_TWICE",
				fmt.Sprintf("担当者 ID %q が重複しています。", person.GetId()), fmt.Sprintf("Person id %q is used twice.", person.GetId())))
		}
		seen[person.GetId()] = true
	}
	for i, desk := range p.GetDesks() {
		if len(desk.GetContacts()) < 2 {
			bad = append(bad, violation(fmt.Sprintf("profile.desks[%d]", i), "CONTACTS_TOO_FEW",
				"窓口は2名以上を登録してください。", "A desk needs two contacts or more."))
		}
	}
	return bad
}
