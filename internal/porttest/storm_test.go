package porttest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"minato.example/internal/ca"
	"minato.example/internal/journal"
	"minato.example/internal/porttest"
	"minato.example/node"
	pb "minato.example/proto/minato/v1"
)

const (
	stormReports = 67 // of each member
	idMark       = "c0ffee"
	textMark     = "canary"
)

var lanes = []pb.Lane{pb.Lane_LANE_LIVE, pb.Lane_LANE_EXERCISE}

// storm is a port in bad weather: what its members publish while hub and nodes
// are stopped and started again.
type storm struct {
	*porttest.Port
	members []porttest.Member
	log     *lines
}

// TestInAStormEveryReportReachesItsAudienceOnceAndNobodyElse publishes 201
// reports with random labels from three nodes at once, over NATS and gRPC,
// while hub and nodes are restarted at random. A failing seed is repeated with
// MINATO_SEED.
func TestInAStormEveryReportReachesItsAudienceOnceAndNobodyElse(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("MINATO_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("MINATO_SEED=%d", seed)
	operator := func(id, name string, grpc bool, communities ...string) porttest.Member {
		p := porttest.Profile(name)
		p.Desks[0].Contacts[0].Name = textMark + "-contact-" + id
		return porttest.Member{ID: id, Name: name, Role: pb.Role_ROLE_OPERATOR, Communities: communities, Profile: p, GRPC: grpc}
	}
	s := &storm{log: new(lines), members: []porttest.Member{
		operator("terminal-a", "東ターミナル", false, "berth-1"),
		operator("terminal-b", "西ターミナル", true, "berth-1", "berth-2"),
		operator("terminal-c", "南ターミナル", false, "berth-2"),
	}}
	s.Port = startWith(t, slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})), s.members...)

	published := make([]map[string]bool, len(s.members))
	weather, calm := context.WithCancel(t.Context())
	var authors errgroup.Group
	for i := range s.members {
		authors.Go(func() (err error) {
			published[i], err = s.author(t.Context(), i, rand.New(rand.NewPCG(seed, uint64(i))))
			return err
		})
	}
	var restarts errgroup.Group
	restarts.Go(func() error { return s.restart(weather, rand.New(rand.NewPCG(seed, 99))) })
	err := authors.Wait()
	calm()
	require.NoError(t, restarts.Wait())
	require.NoError(t, err)

	plans := s.plans(t, published)
	for _, m := range s.members {
		want := 0
		for _, plan := range plans {
			if receives(plan, m.ID) {
				want++
			}
		}
		require.Eventually(t, func() bool {
			return len(laneOf(t, s.Port, m.ID, lanes[0]))+len(laneOf(t, s.Port, m.ID, lanes[1])) >= want
		}, 2*time.Minute, 50*time.Millisecond, "%s gets its %d reports", m.ID, want)
	}
	inboxes := map[string][]string{}
	for _, m := range s.members {
		for _, lane := range lanes {
			for _, item := range laneOf(t, s.Port, m.ID, lane) {
				require.Equal(t, lane, item.GetLane())
				key := fmt.Sprint(m.ID, lane)
				inboxes[key] = append(inboxes[key], item.GetReport())
			}
		}
	}
	s.requireNoTrace(t, plans) // while the log of the database is full
	require.NoError(t, s.Stop())
	s.requireNoTrace(t, plans)
	s.requireCleanLog(t, plans)

	for _, lane := range lanes {
		var order []string
		for _, a := range s.journal(t, lane) {
			order = append(order, a.GetReportId())
			require.True(t, proto.Equal(plans[a.GetReportId()].plan, a.GetPlan()), "the source knows the plan that was carried out")
		}
		inLane := 0
		for _, p := range plans {
			if p.lane == lane {
				inLane++
			}
		}
		require.Len(t, order, inLane, "the hub accepted what its nodes say, and each once")
		for _, m := range s.members {
			want := slices.DeleteFunc(slices.Clone(order), func(id string) bool { return !receives(plans[id], m.ID) })
			require.Equal(t, want, inboxes[fmt.Sprint(m.ID, lane)], "inbox of %s, in the hub's order", m.ID)
		}
	}
}

// author publishes a member's reports. A report has its id from the start, so
// that it is handed over again after the node went away in the middle.
func (s *storm) author(ctx context.Context, self int, r *rand.Rand) (map[string]bool, error) {
	client, err := node.Dial(s.NodeDir(s.members[self].ID))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ids := map[string]bool{}
	for i := range stormReports {
		report := s.report(self, i, r)
		ids[report.GetReportId()] = true
		wait := time.Duration(r.IntN(2)) * 100 * time.Millisecond
		withPart := r.IntN(6) == 0
		content := strings.Repeat(textMark+"-part-"+report.GetReportId()+"\n", 1+r.IntN(40))
		if err := handOver(ctx, client, report, withPart, content, wait); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// handOver tries until the node has the report.
func handOver(ctx context.Context, client *node.Client, report *pb.Report, withPart bool, content string, wait time.Duration) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var err error
		if withPart && len(report.GetAttachments()) == 0 {
			var part *pb.Part
			part, err = client.AddPart(ctx, &pb.Part{Name: textMark + "-name.txt", Class: pb.DisclosureClass_DISCLOSURE_CLASS_CONTEXT}, strings.NewReader(content))
			if err == nil {
				report.Attachments = []*pb.Part{part}
			}
		}
		if err == nil {
			var item *pb.OutboxItem
			item, err = client.Publish(ctx, report, wait)
			if err == nil && item.GetState() == pb.OutboxState_OUTBOX_STATE_REFUSED {
				return fmt.Errorf("refused: %v", item.GetRefusal())
			}
		}
		switch code := status.Code(err); {
		case err == nil, code == codes.AlreadyExists:
			return nil
		case code != codes.Unavailable && code != codes.Canceled && code != codes.Internal && !errors.Is(err, io.EOF):
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// report makes a report of a random label for a random audience.
func (s *storm) report(self, i int, r *rand.Rand) *pb.Report {
	id := fmt.Sprintf("%s%02x%04x%020x", idMark, self, i, r.Uint64())
	report := &pb.Report{
		ReportId: id, CaseId: id, Title: textMark + "-title-" + id, Summary: textMark + "-text-" + id,
		Tlp: pb.TlpLabel(1 + r.IntN(5)), Lane: pb.Lane_LANE_LIVE, Kind: pb.Kind_KIND_NOTICE,
	}
	if r.IntN(8) == 0 {
		report.Lane = pb.Lane_LANE_EXERCISE
	}
	switch report.Tlp {
	case pb.TlpLabel_TLP_LABEL_CLEAR:
	case pb.TlpLabel_TLP_LABEL_GREEN:
		communities := s.members[self].Communities
		report.CommunityId = communities[r.IntN(len(communities))]
	default:
		others := slices.DeleteFunc(slices.Clone(s.members), func(m porttest.Member) bool { return m.ID == s.members[self].ID })
		r.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
		for _, m := range others[:1+r.IntN(len(others))] {
			to := &pb.Recipient{Member: m.ID}
			if report.Tlp == pb.TlpLabel_TLP_LABEL_RED {
				to.Person = "ciso"
			}
			report.Recipients = append(report.Recipients, to)
		}
	}
	return report
}

// restart stops and starts the hub, a node over each transport, and then what
// chance wills, one after the other until the authors are done.
func (s *storm) restart(ctx context.Context, r *rand.Rand) error {
	for _, which := range []int{len(s.members), 0, 1} {
		if err := s.turn(which); err != nil {
			return err
		}
	}
	for range 9 {
		if ctx.Err() != nil {
			return nil
		}
		if err := s.turn(r.IntN(len(s.members) + 1)); err != nil {
			return err
		}
	}
	return nil
}

func (s *storm) turn(which int) error {
	if which == len(s.members) {
		return errors.Join(s.StopHub(), s.StartHub(context.Background()))
	}
	member := s.members[which].ID
	return errors.Join(s.StopNode(member), s.StartNode(context.Background(), member))
}

// audience is what was decided about one report.
type audience struct {
	source string
	lane   pb.Lane
	plan   *pb.Plan
}

func receives(a audience, member string) bool {
	return slices.ContainsFunc(a.plan.GetCopies(), func(c *pb.Copy) bool { return c.GetMember() == member })
}

// plans waits until every report is accepted and reads the plans from the
// outboxes.
func (s *storm) plans(t *testing.T, published []map[string]bool) map[string]audience {
	t.Helper()
	plans := map[string]audience{}
	for i, m := range s.members {
		require.Eventually(t, func() bool {
			resp, err := s.Node(m.ID).GetStatus(t.Context(), &pb.GetStatusRequest{})
			return err == nil && resp.GetQueued() == 0 && resp.GetConnected()
		}, 2*time.Minute, 50*time.Millisecond, "everything of %s is sent", m.ID)
		resp, err := s.Node(m.ID).ListOutbox(t.Context(), &pb.ListOutboxRequest{PageSize: 500})
		require.NoError(t, err)
		require.Len(t, resp.GetItems(), len(published[i]))
		for _, item := range resp.GetItems() {
			require.True(t, published[i][item.GetReport()])
			require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, item.GetState(), "%v", item)
			plans[item.GetReport()] = audience{m.ID, item.GetLane(), item.GetPlan()}
		}
	}
	require.Len(t, plans, stormReports*len(s.members))
	return plans
}

// journal reads the accepted reports of a lane in the hub's order.
func (s *storm) journal(t *testing.T, lane pb.Lane) (all []*pb.ReportAccepted) {
	t.Helper()
	key, err := ca.ReadSecret(filepath.Join(s.HubDir(), "keys", "journal.key"))
	require.NoError(t, err)
	j, err := journal.Open(t.Context(), journal.Config{Dir: filepath.Join(s.HubDir(), "jetstream"), Key: key, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer func() { require.NoError(t, j.Close()) }()
	stream := journal.Lane(lane).Reports()
	last, err := j.Position(t.Context(), stream)
	require.NoError(t, err)
	require.NoError(t, j.ReadTo(t.Context(), stream, 0, last, func(r journal.Record) error {
		record := new(pb.ReportRecord)
		if err := proto.Unmarshal(r.Data, record); err != nil {
			return err
		}
		all = append(all, record.GetAccepted())
		return nil
	}))
	return all
}

var idInText = regexp.MustCompile(idMark + "[0-9a-f]{26}")

// requireNoTrace looks for reports in every file of the nodes that are no
// recipients: neither text nor part nor id of them is there.
func (s *storm) requireNoTrace(t *testing.T, plans map[string]audience) {
	t.Helper()
	for _, m := range s.members {
		found := map[string]bool{}
		files := 0
		for _, name := range []string{"node.db", "node.db-wal"} {
			data, err := os.ReadFile(filepath.Join(s.NodeDir(m.ID), name))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			require.NoError(t, err)
			files++
			for _, id := range idInText.FindAll(data, -1) {
				found[string(id)] = true
			}
		}
		require.NotZero(t, files)
		for id := range found {
			a, known := plans[id]
			require.True(t, known, "%s at %s", id, m.ID)
			require.True(t, a.source == m.ID || receives(a, m.ID), "a trace of %s at %s", id, m.ID)
		}
		for id, a := range plans {
			require.True(t, found[id] || !(a.source == m.ID || receives(a, m.ID)), "the search finds what is there: %s at %s", id, m.ID)
		}
	}
}

// requireCleanLog looks for content in what hub and nodes have logged. A node
// does not even name the reports that it did not get.
func (s *storm) requireCleanLog(t *testing.T, plans map[string]audience) {
	t.Helper()
	log := s.log.String()
	require.Contains(t, log, "report accepted")
	for line := range strings.Lines(log) {
		for _, word := range []string{textMark, "波止", "花子", "hanako", "03-0000"} {
			require.NotContains(t, line, word)
		}
		for _, m := range s.members {
			if !strings.Contains(line, fmt.Sprintf(`"daemon":%q`, m.ID)) {
				continue
			}
			for _, id := range idInText.FindAllString(line, -1) {
				require.True(t, plans[id].source == m.ID || receives(plans[id], m.ID), "%s logs %s", m.ID, id)
			}
		}
	}
}

// lines is a log to look into.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}
