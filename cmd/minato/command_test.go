package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

func TestANodeThatIsNotThereIsToldApart(t *testing.T) {
	dir := t.TempDir()
	code, _, errs := typedIn(nil, "", "--node", dir, "inbox")
	require.Equal(t, exitAccess, code)
	require.Contains(t, errs, "minato node join TOKEN --dir "+dir)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "node.toml"), nil, 0o600))
	code, _, errs = typedIn(map[string]string{"MINATO_NODE": "/nowhere"}, "", "--lang", "en", "status", "--node", dir)
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "start it: minato node run -c "+filepath.Join(dir, "node.toml"))
}

func TestExitCodesFollowTheAnswer(t *testing.T) {
	n := startNode(t)
	for code, want := range map[codes.Code]int{
		codes.InvalidArgument: exitUsage, codes.NotFound: exitUsage, codes.AlreadyExists: exitUsage,
		codes.FailedPrecondition: exitRefused,
		codes.PermissionDenied:   exitAccess, codes.Unauthenticated: exitAccess,
		codes.Unavailable: exitFailed, codes.Internal: exitFailed,
	} {
		n.failure = rpc.Refuse(code, "WHY", "field", "だめです。", "No.").GRPCStatus().Err()
		got, out, errs := n.minato("status")
		require.Equal(t, want, got, code)
		require.Empty(t, out)
		require.Equal(t, "✗ field: だめです。\n", errs)
	}
}

func arrived() *pb.InboxItem {
	return &pb.InboxItem{
		Report: reportID, Case: caseID, Seq: 1, Tlp: "TLP:AMBER", Title: "件名\x1b[2J", Text: "概要", Source: "tcb", SourceName: "名古屋東ターミナル",
		Lane: pb.Lane_LANE_LIVE, Stage: pb.Stage_STAGE_PRELIMINARY, AcceptTime: timestamppb.New(time.Date(2026, 11, 22, 1, 0, 0, 0, time.UTC)),
	}
}

func TestTheInboxIsOneStableLineAnItem(t *testing.T) {
	n := startNode(t)
	drill := arrived()
	drill.Lane = pb.Lane_LANE_EXERCISE
	n.inbox = []*pb.InboxItem{arrived(), drill}
	code, out, _ := n.minato("inbox")
	require.Equal(t, exitDone, code)
	require.Equal(t, "3f2a9c1e 第1報 TLP:AMBER 2026-11-22 10:00 名古屋東ターミナル  件名\\u{001B}[2J\n", out)
	code, out, _ = n.minato("inbox", "--exercise")
	require.Equal(t, exitDone, code)
	require.Contains(t, out, "【訓練】件名")

	code, out, _ = n.minato("inbox", "--json", "--search", "件名")
	require.Equal(t, exitDone, code)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 2)
	var got map[string]any
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &got))
	for _, key := range []string{"report", "case", "seq", "tlp", "title", "text", "source", "source_name", "accept_time"} {
		require.Contains(t, got, key)
	}
	require.Equal(t, "件名\x1b[2J", got["title"])
	require.InDelta(t, 1, got["seq"], 0)
	require.Contains(t, lines[0], `"tlp":"TLP:AMBER"`, "the white space is stable")
}

func TestWaitingInVainIsAFailure(t *testing.T) {
	n := startNode(t)
	code, out, errs := n.minato("inbox", "--wait", "1ms")
	require.Equal(t, exitFailed, code)
	require.Empty(t, out)
	require.NotEmpty(t, errs)
	code, _, errs = n.minato("inbox")
	require.Equal(t, exitDone, code)
	require.Contains(t, errs, "空です")
	code, _, errs = n.minato("inbox", "-q")
	require.Equal(t, exitDone, code)
	require.Empty(t, errs)
	code, _, _ = n.minato("inbox", "--wait", "1s", "--search", "x")
	require.Equal(t, exitUsage, code)
	code, _, errs = n.minato("inbox", "--wait", "soon")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "24h")
}

func TestAReactionIsRecordedOrQueued(t *testing.T) {
	n := startNode(t)
	n.recorded = true
	code, out, _ := n.minato("ack", reportID, "--reaction", "not-affected")
	require.Equal(t, exitDone, code)
	require.Contains(t, out, "該当しない")
	require.Equal(t, pb.Reaction_REACTION_NOT_AFFECTED, n.acked.GetReaction())
	n.recorded = false
	code, _, _ = n.minato("ack", reportID, "--reaction", "seen")
	require.Equal(t, exitQueued, code)
	code, _, errs := n.minato("ack", reportID)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "--reaction")
	code, _, errs = n.minato("ack")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "ID")
}

func TestShowWritesPartsOnceUnderSafeNames(t *testing.T) {
	n := startNode(t)
	one, two := []byte("one"), []byte("two")
	r := &pb.Report{ReportId: reportID, CaseId: caseID, Sequence: 1, Tlp: pb.TlpLabel_TLP_LABEL_AMBER, Lane: pb.Lane_LANE_LIVE, Title: "件名", Summary: "一\nTLP:CLEAR 偽の行",
		AttackTechnical: &pb.AttackTechnical{Indicators: []*pb.Indicator{{Value: "203.0.113.7"}}}}
	for i, data := range [][]byte{one, two} {
		digest := sha256.Sum256(data)
		n.parts[string(digest[:])] = data
		r.Attachments = append(r.Attachments, &pb.Part{Name: "../A.txt", Digest: digest[:], Size: uint64(len(data)), MediaType: "text/plain"})
		r.Attachments[i].Name = []string{"../a.txt", "A.txt"}[i]
	}
	n.reports[reportID] = &pb.GetReportResponse{Report: r, Received: arrived()}

	dir := filepath.Join(t.TempDir(), "parts")
	code, out, errs := n.minato("show", reportID, "--parts", dir)
	require.Equal(t, exitDone, code, errs)
	require.Contains(t, out, "203[.]0[.]113[.]7")
	require.Contains(t, out, "\n  TLP:CLEAR 偽の行", "text of a report is indented")
	for name, want := range map[string][]byte{"a.txt": one, "A-2.txt": two} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}

	code, _, errs = n.minato("show", reportID, "--parts", dir)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "a.txt")

	// A damaged part leaves nothing behind, nor do those before it.
	n.parts[string(r.Attachments[1].Digest)] = []byte("tampered")
	dir = filepath.Join(t.TempDir(), "parts")
	code, _, errs = n.minato("show", reportID, "--parts", dir)
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "署名")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)

	code, _, _ = n.minato("show", "ffffff")
	require.Equal(t, exitUsage, code)
}

func TestShowTellsTheSourceWhoHasIt(t *testing.T) {
	n := startNode(t)
	out := item(pb.OutboxState_OUTBOX_STATE_ACCEPTED)
	n.reports[reportID] = &pb.GetReportResponse{
		Report: &pb.Report{ReportId: reportID, Tlp: pb.TlpLabel_TLP_LABEL_AMBER, Title: "件名", Summary: "概要"}, Published: out,
		Copies: []*pb.CopyState{{Copy: out.GetPlan().GetCopies()[0], SendTime: timestamppb.Now(), Reaction: pb.Reaction_REACTION_CHECKING, Person: "ciso"}},
	}
	code, text, _ := n.minato("show", reportID)
	require.Equal(t, exitDone, code)
	require.Regexp(t, `port-authority 2\d{3}-.* - - 調査中\(ciso\)  港湾管理者`, text)
}

func TestTheProfileNeedsTwoContacts(t *testing.T) {
	n := startNode(t)
	n.recorded = true
	n.profile = &pb.Profile{Persons: []*pb.Person{{Id: "ciso", Name: "山田"}}}
	code, _, errs := n.minato("node", "profile", "--organisation", "東", "--contact", "山田,052-000-0001,y@example.jp")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "二名以上")

	code, out, errs := n.minato("node", "profile", "--organisation", "東ターミナル", "--terminal", "東", "--desk", "情報課",
		"--contact", "山田,052-000-0001,y@example.jp", "--contact", "鈴木, s@example.jp")
	require.Equal(t, exitDone, code, errs)
	require.Contains(t, out, "東ターミナル")
	require.Equal(t, "s@example.jp", n.profile.GetDesks()[0].GetContacts()[1].GetMail())
	require.Len(t, n.profile.GetPersons(), 1, "persons stay")

	file := filepath.Join(t.TempDir(), "profile.toml")
	require.NoError(t, os.WriteFile(file, []byte("organisation = \"西\"\n[[desks]]\nname = \"課\"\ncontacts = [{name = \"a\", mail = \"a@example.jp\"}, {name = \"b\", phone = \"1\"}]\n"), 0o600))
	code, _, errs = n.minato("node", "profile", "--file", file)
	require.Equal(t, exitDone, code, errs)
	require.Equal(t, "西", n.profile.GetOrganisation())
	require.Len(t, n.profile.GetPersons(), 1)

	require.NoError(t, os.WriteFile(file, []byte("organisation = \"西\"\norganization = \"x\"\n"), 0o600))
	code, _, errs = n.minato("node", "profile", "--file", file)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "2 行目")
	require.Contains(t, errs, "organization")

	n.recorded = false
	code, _, _ = n.minato("node", "person", "add", "desk2", "--name", "鈴木", "--title", "課長")
	require.Equal(t, exitQueued, code)
	require.Len(t, n.profile.GetPersons(), 2)
	n.recorded = true
	code, _, _ = n.minato("node", "person", "remove", "desk2")
	require.Equal(t, exitDone, code)
	code, _, _ = n.minato("node", "person", "remove", "desk2")
	require.Equal(t, exitUsage, code)
	code, out, _ = n.minato("node", "profile", "--json")
	require.Equal(t, exitDone, code)
	require.Contains(t, out, `"organisation":"西"`)
}

func TestListsAndStatusAreReadable(t *testing.T) {
	n := startNode(t)
	n.members = []*pb.Member{{Id: "mlit", Name: "国土交通省", Role: pb.Role_ROLE_MINISTRY, State: pb.MemberState_MEMBER_STATE_ACTIVE,
		Communities: []string{"nagoya"}, Profile: &pb.Profile{Persons: []*pb.Person{{Id: "ciso"}}}}}
	n.outbox = []*pb.OutboxItem{item(pb.OutboxState_OUTBOX_STATE_ACCEPTED), item(pb.OutboxState_OUTBOX_STATE_QUEUED)}
	_, out, _ := n.minato("members")
	require.Equal(t, "mlit 所管省庁 参加中 ciso nagoya  国土交通省\n", out)
	_, out, _ = n.minato("outbox", "--limit", "1")
	require.Equal(t, 1, strings.Count(out, "\n"))
	require.Contains(t, out, "受領")
	_, out, _ = n.minato("status", "--lang", "en")
	require.Contains(t, out, "hub:7443  connected")
	_, out, _ = n.minato("status", "--json")
	require.Contains(t, out, `"queued":0`, "a script finds every key")
	code, out, _ := typedIn(nil, "", "version", "--json")
	require.Equal(t, exitDone, code)
	require.True(t, json.Valid([]byte(out)))
}

func TestConfigCheckPassesOrFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "node.toml")
	require.NoError(t, os.WriteFile(path, []byte("hub = \"h:1\"\nport = \"nagoya\"\nmember = \"tcb\"\nnode = 1\n"), 0o600))
	code, out, errs := typedIn(nil, "", "config", "check", path)
	require.Equal(t, exitDone, code, errs)
	require.Contains(t, out, "node")
	require.NoError(t, os.WriteFile(path, []byte("hubb = 1\n"), 0o600))
	code, out, errs = typedIn(nil, "", "config", "check", path, "--json")
	require.Equal(t, exitCheck, code)
	require.Contains(t, out, `"valid":false`)
	require.Contains(t, errs, "hubb")
	code, _, _ = typedIn(nil, "", "config", "check", filepath.Join(dir, "missing-hub.toml"))
	require.Equal(t, exitUsage, code)
}

func TestHubCommandsNeedTheirFolder(t *testing.T) {
	code, _, errs := typedIn(nil, "", "hub", "invite", "--member", "tcb")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "--dir, --name, --role")
	code, _, errs = typedIn(nil, "", "hub", "members", "--dir", t.TempDir())
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "minato hub init")
	code, _, errs = typedIn(nil, "", "hub", "invite", "--dir", "/d", "--member", "tcb", "--name", "n", "--role", "king")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "port_authority")
	code, _, errs = typedIn(nil, "", "node", "join", "not-a-token")
	require.Equal(t, exitUsage, code)
	require.NotEmpty(t, errs)
	code, _, errs = typedIn(nil, "", "hub")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "init")
}

func TestAHubIsAdministeredWhileItDoesNotRun(t *testing.T) {
	base, err := os.MkdirTemp("", "mn")
	require.NoError(t, err)
	defer os.RemoveAll(base)
	dir := filepath.Join(base, "hub")
	code, _, errs := typedIn(nil, "", "hub", "init", "--dir", dir, "--port", "nagoya")
	require.Equal(t, exitDone, code, errs)
	code, _, errs = typedIn(nil, "", "hub", "init", "--dir", dir, "--port", "nagoya")
	require.NotEqual(t, exitDone, code)
	require.Contains(t, errs, "minato hub run")

	code, out, errs := typedIn(nil, "", "hub", "invite", "--dir", dir, "--member", "tcb", "--name", "東ターミナル", "--role", "operator")
	require.Equal(t, exitDone, code, errs)
	require.Regexp(t, `^minato1\.[^\s]+\n$`, out, "the token and nothing else")
	code, out, errs = typedIn(nil, "", "hub", "members", "--dir", dir)
	require.Equal(t, exitDone, code, errs)
	require.Equal(t, "tcb 重要インフラ事業者等 招待済み 0 0 nagoya -  東ターミナル\n", out)
	code, _, errs = typedIn(nil, "", "hub", "revoke", "tcb", "--dir", dir)
	require.Equal(t, exitDone, code, errs)
	code, _, errs = typedIn(nil, "", "hub", "revoke", "nobody", "--dir", dir)
	require.Equal(t, exitUsage, code, errs)
}

func TestTheNATSAddressFollowsTheOther(t *testing.T) {
	require.Equal(t, "127.0.0.1:7444", nextPort("127.0.0.1:7443"))
	require.Equal(t, "[::1]:0", nextPort("[::1]:0"))
	require.Empty(t, nextPort("nonsense"))
	require.True(t, everywhere(":1"))
	require.True(t, everywhere("[::]:1"))
	require.False(t, everywhere("127.0.0.1:1"))
}

// short is a daemon that serves until its context ends.
type short struct {
	ready  chan struct{}
	fail   error
	closed bool
}

func (s *short) Ready() <-chan struct{} { return s.ready }
func (s *short) Close() error           { s.closed = true; return nil }
func (s *short) Run(ctx context.Context) error {
	if s.fail != nil {
		return s.fail
	}
	close(s.ready)
	<-ctx.Done()
	return ctx.Err()
}

func TestADaemonSaysReadyOnceTellsSystemdAndEndsCleanly(t *testing.T) {
	dir, err := os.MkdirTemp("", "mn")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	require.NoError(t, err)
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "notify"))
	heard := func() string {
		buf := make([]byte, 100)
		n, err := systemd.Read(buf)
		require.NoError(t, err)
		return string(buf[:n])
	}

	var out bytes.Buffer
	a := &app{terminal: terminal{out: &out, err: new(bytes.Buffer)}}
	ctx, cancel := context.WithCancel(t.Context())
	served := &short{ready: make(chan struct{})}
	done := make(chan error, 1)
	go func() {
		done <- a.serve(ctx, served, func() readiness {
			return readiness{Ready: "node", Port: "nagoya", Member: "tcb", Node: 1, Addr: "x"}
		})
	}()
	require.Equal(t, "READY=1", heard())
	cancel()
	require.Equal(t, "STOPPING=1", heard())
	require.NoError(t, <-done)
	require.True(t, served.closed)
	require.Equal(t, "ready node port=nagoya member=tcb node=1 address=x\n", out.String())

	err = a.serve(t.Context(), &short{fail: errors.New("listen: address in use")}, nil)
	require.Equal(t, exitFailed, exitCode(err))
	err = a.serve(t.Context(), &short{fail: rpc.Refuse(codes.Unavailable, "X", "", "だめ", "no")}, nil)
	require.Equal(t, exitFailed, exitCode(err), "a supervisor tries again")
}
