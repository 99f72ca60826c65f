package porttest_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"minato.example/internal/porttest"
	pb "minato.example/proto/minato/v1"
)

// historySteps is how many steps a random history takes.
const historySteps = 120

// canary is a word that stands in one field of one report: the report, the class
// of the field, and the field. Every byte that somebody has is searched for it.
var canary = regexp.MustCompile(`canary-word-([0-9]+)-([a-z]+)-([a-z_.]+)-end`)

func canaryOf(n int, class pb.DisclosureClass, field string) string {
	return fmt.Sprintf("canary-word-%d-%s-%s-end", n, strings.ToLower(strings.TrimPrefix(class.String(), "DISCLOSURE_CLASS_")), field)
}

// history is a running port to which things happen at random, with what is
// known of who may have what.
type history struct {
	*porttest.Port
	t       *testing.T
	rand    *rand.Rand
	log     *lines
	members map[string]porttest.Member
	gone    map[string]bool
	reports []*told
}

// told is one report of the history with those who may have it.
type told struct {
	n       int
	source  string
	id      string
	caseID  string
	report  *pb.Report
	holders map[string][]*pb.Copy // a further one where somebody passed it on to who had it
}

// TestNoByteOfAReportReachesWhoIsOutsideItsAudience lets a port of seven live
// through a random history: submits of every label, updates, new labels,
// forwards, members that join and leave, restarts. Every text field of every
// report carries a canary. Afterwards every file that a node holds and
// everything that was logged is searched: a canary is only where the plan put
// its report, and at peers only what its class lets through. A failing seed is
// repeated with MINATO_SEED.
func TestNoByteOfAReportReachesWhoIsOutsideItsAudience(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("MINATO_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("MINATO_SEED=%d", seed)
	h := &history{t: t, rand: rand.New(rand.NewPCG(seed, 1)), log: new(lines), members: map[string]porttest.Member{}, gone: map[string]bool{}}
	var first []porttest.Member
	for _, m := range []struct {
		id   string
		role pb.Role
		grpc bool
		in   []string
	}{
		{"terminal-a", pb.Role_ROLE_OPERATOR, false, []string{"berths"}},
		{"terminal-b", pb.Role_ROLE_OPERATOR, true, []string{"berths"}},
		{"terminal-c", pb.Role_ROLE_OPERATOR, false, nil},
		{"port-authority", pb.Role_ROLE_PORT_AUTHORITY, false, nil},
		{"mlit", pb.Role_ROLE_MINISTRY, true, nil},
		{"regional", pb.Role_ROLE_REGIONAL_TRANSPORT, false, nil},
		{"jpcert", pb.Role_ROLE_EXPERT, false, []string{"berths"}},
	} {
		first = append(first, h.member(m.id, m.role, m.grpc, m.in...))
	}
	h.Port = startWith(t, slog.New(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})), first...)
	for _, m := range first {
		h.members[m.ID] = m
	}
	steps := []struct {
		weight int
		do     func()
	}{
		{50, h.submit}, {10, h.update}, {8, h.relabel}, {18, h.forward}, {4, h.join}, {2, h.leave}, {4, h.restartNode}, {2, h.restartHub},
	}
	for range historySteps {
		n := h.rand.IntN(98)
		for _, s := range steps {
			if n -= s.weight; n < 0 {
				s.do()
				break
			}
		}
	}
	h.settle()
	// A history in which everything is refused would prove nothing.
	for label := pb.TlpLabel_TLP_LABEL_CLEAR; label <= pb.TlpLabel_TLP_LABEL_RED; label++ {
		require.True(t, slices.ContainsFunc(h.reports, func(a *told) bool { return a.report.GetTlp() == label && len(a.holders) > 0 }), "%s was sent", label)
	}
	h.search()
	require.NoError(t, h.Stop())
	h.search()
	h.searchLog()
}

func (h *history) member(id string, role pb.Role, grpc bool, communities ...string) porttest.Member {
	p := porttest.Profile("組織 " + id)
	p.Place = &pb.Place{Port: "みなと港", Terminal: "場所 " + id}
	return porttest.Member{ID: id, Name: "会員 " + id, Role: role, Communities: communities, Profile: p, GRPC: grpc}
}

// present is the members that are here, by id.
func (h *history) present() (ids []string) {
	for id := range h.members {
		if !h.gone[id] {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (h *history) one(of []string) string { return of[h.rand.IntN(len(of))] }

// submit publishes a report with a random label for a random audience.
func (h *history) submit() {
	source := h.one(h.present())
	r := h.report(source, len(h.reports))
	r.Tlp = pb.TlpLabel(1 + h.rand.IntN(5))
	h.address(r, source)
	if h.rand.IntN(4) == 0 {
		r.Lane = pb.Lane_LANE_EXERCISE
	}
	if h.rand.IntN(3) == 0 {
		r.Kind = pb.Kind_KIND_NOTICE
	}
	switch h.rand.IntN(8) {
	case 0:
		r.Consents = &pb.Consents{PeerNamed: true}
	case 1:
		r.Consents = &pb.Consents{PeerNamed: true, PeerDamage: true}
	case 2:
		r.Restrictions.NoDistribution = true
	}
	if h.rand.IntN(3) > 0 {
		r.Impact.Business = pb.BusinessImpact_BUSINESS_IMPACT_NONE
	}
	h.publish(source, r)
}

// address names who shall get a report.
func (h *history) address(r *pb.Report, source string) {
	r.Recipients, r.CommunityId = nil, ""
	if r.Tlp == pb.TlpLabel_TLP_LABEL_GREEN {
		r.CommunityId = h.one(append(slices.Clone(h.members[source].Communities), "testport"))
	}
	if r.Tlp <= pb.TlpLabel_TLP_LABEL_GREEN && h.rand.IntN(2) == 0 {
		return
	}
	for _, id := range h.present() {
		if id != source && (h.rand.IntN(3) == 0 || len(r.Recipients) == 0) {
			to := &pb.Recipient{Member: id}
			if r.Tlp == pb.TlpLabel_TLP_LABEL_RED {
				to.Person = "ciso"
			}
			r.Recipients = append(r.Recipients, to)
		}
	}
}

// publish hands a report over, waits for the hub and notes who may have it. A
// refusal by policy is part of the history.
func (h *history) publish(source string, r *pb.Report) *told {
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	a := &told{n: len(h.reports), source: source, report: r, holders: map[string][]*pb.Copy{}}
	h.reports = append(h.reports, a)
	resp, err := h.Node(source).PublishReport(ctx, &pb.PublishReportRequest{Report: r, Wait: durationpb.New(40 * time.Second)})
	if err != nil {
		h.refused(err)
		return nil
	}
	item := resp.GetItem()
	a.id, a.caseID = item.GetReport(), item.GetCase()
	require.Contains(h.t, []pb.OutboxState{pb.OutboxState_OUTBOX_STATE_ACCEPTED, pb.OutboxState_OUTBOX_STATE_REFUSED}, item.GetState(), "%v", item)
	for _, c := range item.GetPlan().GetCopies() {
		a.holders[c.GetMember()] = append(a.holders[c.GetMember()], c)
	}
	if item.GetState() == pb.OutboxState_OUTBOX_STATE_REFUSED {
		return nil
	}
	return a
}

// refused accepts only answers that a person could have caused.
func (h *history) refused(err error) {
	require.Contains(h.t, []codes.Code{codes.InvalidArgument, codes.FailedPrecondition, codes.NotFound, codes.AlreadyExists}, status.Code(err), "%v", err)
}

// accepted is a random report that the hub took, with its source still here.
func (h *history) accepted() *told {
	var all []*told
	for _, a := range h.reports {
		if len(a.holders) > 0 && !h.gone[a.source] {
			all = append(all, a)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[h.rand.IntN(len(all))]
}

// update publishes the next report of a case, with fresh canaries.
func (h *history) update() {
	a := h.accepted()
	if a == nil {
		return
	}
	r := h.report(a.source, len(h.reports))
	r.CaseId, r.Lane, r.Tlp, r.CommunityId, r.Recipients, r.Kind = a.caseID, a.report.GetLane(), a.report.GetTlp(), a.report.GetCommunityId(), a.report.GetRecipients(), a.report.GetKind()
	r.Recipients = slices.DeleteFunc(slices.Clone(r.Recipients), func(to *pb.Recipient) bool { return h.gone[to.GetMember()] })
	h.publish(a.source, r)
}

// relabel publishes a report of the case with another label.
func (h *history) relabel() {
	a := h.accepted()
	if a == nil {
		return
	}
	r := h.report(a.source, len(h.reports))
	r.CaseId, r.Lane, r.Relabels, r.Kind, r.Stage = a.caseID, a.report.GetLane(), a.id, a.report.GetKind(), pb.Stage_STAGE_CORRECTION
	r.Tlp = pb.TlpLabel(1 + h.rand.IntN(5))
	h.address(r, a.source)
	h.publish(a.source, r)
}

// forward lets a holder or the source pass a report on, to whomever.
func (h *history) forward() {
	a := h.accepted()
	if a == nil {
		return
	}
	by := a.source
	if h.rand.IntN(3) > 0 {
		var holders []string
		for m := range a.holders {
			if !h.gone[m] {
				holders = append(holders, m)
			}
		}
		if len(holders) == 0 {
			return
		}
		slices.Sort(holders)
		by = h.one(holders)
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer cancel()
	to := &pb.Recipient{Member: h.one(h.present())}
	if a.report.GetTlp() == pb.TlpLabel_TLP_LABEL_RED {
		to.Person = "desk"
	}
	if by != a.source {
		h.arrivedAt(by, a)
	}
	resp, err := h.Node(by).ForwardReport(ctx, &pb.ForwardReportRequest{Report: a.id, Recipients: []*pb.Recipient{to}})
	if err != nil {
		h.refused(err)
		return
	}
	for _, c := range resp.GetPlan().GetCopies() {
		a.holders[c.GetMember()] = append(a.holders[c.GetMember()], c)
	}
}

// arrivedAt waits until a holder has a report.
func (h *history) arrivedAt(member string, a *told) {
	require.Eventually(h.t, func() bool { return h.has(member, a) }, 40*time.Second, 20*time.Millisecond, "report %d gets to %s", a.n, member)
}

// logOf is what was logged about one report.
func (h *history) logOf(id string) string {
	var about []string
	for line := range strings.Lines(h.log.String()) {
		if strings.Contains(line, id) {
			about = append(about, line)
		}
	}
	return strings.Join(about, "")
}

func (h *history) has(member string, a *told) bool {
	return slices.ContainsFunc(laneOf(h.t, h.Port, member, a.report.GetLane()), func(i *pb.InboxItem) bool { return i.GetReport() == a.id })
}

func (h *history) join() {
	if len(h.members) > 10 {
		return
	}
	id := fmt.Sprintf("late-%d", len(h.members))
	m := h.member(id, []pb.Role{pb.Role_ROLE_OPERATOR, pb.Role_ROLE_POLICE, pb.Role_ROLE_ISAC}[h.rand.IntN(3)], h.rand.IntN(2) == 0, "berths")
	require.NoError(h.t, h.Join(h.t.Context(), m))
	h.members[id] = m
	// What the policy's window gives to whom joins late is theirs.
	for _, a := range h.reports {
		if len(a.holders) == 0 || h.gone[a.source] {
			continue
		}
		resp, err := h.Node(a.source).ExplainReport(h.t.Context(), &pb.NodeServiceExplainReportRequest{Report: a.id, Member: id})
		require.NoError(h.t, err)
		if c := resp.GetExplanation().GetCopy(); c != nil {
			require.LessOrEqual(h.t, a.report.GetTlp(), pb.TlpLabel_TLP_LABEL_GREEN, "only CLEAR and GREEN are given later")
			require.Empty(h.t, a.report.GetRecipients())
			a.holders[id] = append(a.holders[id], c)
		}
	}
}

// leave puts a member out: it keeps what it had and gets nothing more.
func (h *history) leave() {
	var late []string
	for _, id := range h.present() {
		// Not a source: it has to be asked, later, whom its reports went to.
		source := slices.ContainsFunc(h.reports, func(a *told) bool { return a.source == id })
		if strings.HasPrefix(id, "late-") && !source {
			late = append(late, id)
		}
	}
	if len(late) == 0 {
		return
	}
	id := h.one(late)
	_, err := h.Hub().Revoke(h.t.Context(), &pb.RevokeRequest{Member: id, Reason: "脱退"})
	require.NoError(h.t, err)
	h.gone[id] = true
}

func (h *history) restartNode() {
	id := h.one(h.present())
	require.NoError(h.t, h.StopNode(id))
	require.NoError(h.t, h.StartNode(h.t.Context(), id))
	require.NoError(h.t, h.Connected(h.t.Context(), id))
}

func (h *history) restartHub() {
	require.NoError(h.t, h.StopHub())
	require.NoError(h.t, h.StartHub(h.t.Context()))
	for _, id := range h.present() {
		require.NoError(h.t, h.Connected(h.t.Context(), id))
	}
}

// settle waits until everybody who is here has what the plans give.
func (h *history) settle() {
	for _, a := range h.reports {
		for m := range a.holders {
			if !h.gone[m] {
				h.arrivedAt(m, a)
			}
		}
	}
}

// report is an incident in which every text has a canary of its own.
func (h *history) report(source string, n int) *pb.Report {
	r := &pb.Report{
		Lane: pb.Lane_LANE_LIVE, Kind: pb.Kind_KIND_INCIDENT, Reason: pb.Reason_REASON_SHARING,
		Event: &pb.Event{Types: []pb.EventType{pb.EventType_EVENT_TYPE_MALWARE}}, Cause: &pb.Cause{Class: pb.CauseClass_CAUSE_CLASS_ACCIDENTAL},
		Impact:          &pb.Impact{Business: pb.BusinessImpact_BUSINESS_IMPACT_DEGRADED, AffectedServices: []string{""}},
		AffectedSystems: []*pb.AffectedSystem{{Kind: pb.SystemKind_SYSTEM_KIND_TOS}},
		AttackTechnical: &pb.AttackTechnical{
			Malware: []string{""}, Techniques: []string{""}, Vulnerabilities: []string{""}, Tools: []string{""}, Ransom: &pb.Ransom{}, Ddos: &pb.Ddos{},
			Indicators: []*pb.Indicator{{Type: pb.IndicatorType_INDICATOR_TYPE_FILE_NAME}},
		},
		AttackTimeline: []*pb.TimelineEntry{{}}, ResponseTimeline: []*pb.TimelineEntry{{}}, ParallelNotices: []*pb.ParallelNotice{{}},
		Publication: &pb.Publication{}, Restrictions: &pb.Restrictions{}, Spread: &pb.Spread{Risk: pb.SpreadRisk_SPREAD_RISK_POSSIBLE},
		Place:    &pb.Place{Certainty: pb.Certainty_CERTAINTY_CONFIRMED},
		Reporter: &pb.Reporter{Contacts: []*pb.Contact{{}, {}}},
	}
	plant(r.ProtoReflect(), n, pb.DisclosureClass_DISCLOSURE_CLASS_UNSPECIFIED, "")
	return r
}

// plant writes a canary into every text of a message that is there.
func plant(m protoreflect.Message, n int, inherited pb.DisclosureClass, path string) {
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		class := inherited
		if own := proto.GetExtension(f.Options(), pb.E_Disclosure).(pb.DisclosureClass); own != pb.DisclosureClass_DISCLOSURE_CLASS_UNSPECIFIED {
			class = own
		}
		name := strings.TrimPrefix(path+"."+string(f.Name()), ".")
		switch {
		case slices.Contains([]string{"report_id", "case_id", "community_id", "relabels"}, name) || f.IsList() && f.Kind() == protoreflect.StringKind && name == "derived_from":
		case f.Kind() == protoreflect.StringKind && f.IsList():
			for j := range m.Get(f).List().Len() {
				m.Get(f).List().Set(j, protoreflect.ValueOfString(canaryOf(n, class, name)))
			}
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString(canaryOf(n, class, name)))
		case f.Kind() == protoreflect.MessageKind && f.IsList():
			for j := range m.Get(f).List().Len() {
				plant(m.Get(f).List().Get(j).Message(), n, class, name)
			}
		case f.Kind() == protoreflect.MessageKind && m.Has(f):
			plant(m.Mutable(f).Message(), n, class, name)
		}
	}
}

// mayHave reports whether a member may have a canary of a report.
func (h *history) mayHave(member string, a *told, class, field string) bool {
	return a.source == member || slices.ContainsFunc(a.holders[member], func(c *pb.Copy) bool { return holds(c, a.report, class, field) })
}

// holds reports whether a copy holds a field of a report.
func holds(c *pb.Copy, r *pb.Report, class, field string) bool {
	switch {
	case c.GetFlow() == pb.Flow_FLOW_AUTHORITY:
		return true
	case field == "title" || field == "summary":
		return r.GetKind() == pb.Kind_KIND_NOTICE || r.GetConsents().GetPeerDamage()
	}
	switch class {
	case "technique", "message":
		return true
	case "identity":
		return c.GetNamed()
	case "context":
		// The table of the guideline: peers see when and how, not on what.
		return field == "attack_timeline.text" || c.GetFlow() == pb.Flow_FLOW_EXPERT || c.GetFlow() == pb.Flow_FLOW_EXPERT_NDA ||
			field == "attack_technical.vulnerabilities" && r.GetConsents().GetExpertShare()
	case "damage":
		return c.GetFlow() == pb.Flow_FLOW_EXPERT_NDA || r.GetConsents().GetPeerDamage() || r.GetConsents().GetPeerNamed() && strings.HasPrefix(field, "place.")
	}
	return false
}

// search looks into every file of every node.
func (h *history) search() {
	found := 0
	for id := range h.members {
		err := filepath.WalkDir(h.NodeDir(id), func(path string, entry os.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if os.IsNotExist(err) {
				return nil // the log of the database comes and goes
			}
			require.NoError(h.t, err)
			for _, m := range canary.FindAllStringSubmatch(string(data), -1) {
				n, err := strconv.Atoi(m[1])
				require.NoError(h.t, err)
				found++
				require.True(h.t, h.mayHave(id, h.reports[n], m[2], m[3]), "%s of report %d, %s by %s, is at %s in %s",
					m[3], n, h.reports[n].report.GetTlp(), h.reports[n].source, id, filepath.Base(path))
			}
			return nil
		})
		require.NoError(h.t, err)
	}
	require.Greater(h.t, found, 1000, "the search finds what is there")
	h.searchHub()
}

// searchHub looks into the hub's files: they are sealed at rest as a whole, so
// not one canary is there in the clear, of any label.
func (h *history) searchHub() {
	require.NoError(h.t, filepath.WalkDir(h.HubDir(), func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil // JetStream removes files while we look
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		require.NotRegexp(h.t, canary, string(data), path)
		return nil
	}))
}

// searchLog looks into everything that hub and nodes logged, as it is and in
// the encodings that a careless line would use.
func (h *history) searchLog() {
	log := h.log.String()
	require.Contains(h.t, log, "report accepted")
	if found := canary.FindString(log); found != "" {
		require.FailNow(h.t, "content in a log", "%s\n%s", found, h.logOf(found))
	}
	const mark = "canary-word-"
	forms := []string{hex.EncodeToString([]byte(mark))}
	for shift := range 3 { // whatever stands before it, these characters of base64 are its own
		all := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + mark))
		forms = append(forms, all[(8*shift+5)/6:8*(shift+len(mark))/6])
	}
	for _, form := range forms {
		if strings.Contains(log, form) {
			require.FailNow(h.t, "content in a log, encoded", "%s\n%s", form, h.logOf(form))
		}
	}
}
