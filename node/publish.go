package node

import (
	"context"
	"errors"
	"fmt"

	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/check"
	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// keptByDefault is how long a report is kept when nobody says otherwise.
const keptByDefault = 365 * 24 * time.Hour

// maxPart bounds what the node takes in; the hub's limit may be lower.
const maxPart = 64 << 20

// AddPart stores bytes that a report will name.
func (n *Node) AddPart(stream pb.NodeService_AddPartServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	meta := first.GetPart()
	if meta == nil {
		return rpc.Refuse(codes.InvalidArgument, "PART_MISSING", "part",
			"最初のメッセージに part (名前と種類) が必要です。", "The first message must carry part (name and type).")
	}
	in := &pieces{rest: first.GetData(), next: func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetData(), err
	}}
	part, err := n.store.addPart(stream.Context(), meta, in, maxPart)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&pb.AddPartResponse{Part: part})
}

// pieces reads a stream of chunks.
type pieces struct {
	rest []byte
	next func() ([]byte, error)
}

func (p *pieces) Read(to []byte) (int, error) {
	for len(p.rest) == 0 {
		var err error
		if p.rest, err = p.next(); err != nil {
			return 0, err
		}
	}
	c := copy(to, p.rest)
	p.rest = p.rest[c:]
	return c, nil
}

// PublishReport fills a report from the profile, signs it and puts it into the
// outbox. From then on it is safe: it is sent until the hub has answered.
func (n *Node) PublishReport(ctx context.Context, req *pb.PublishReportRequest) (*pb.PublishReportResponse, error) {
	r, err := n.complete(ctx, req.GetReport())
	if err != nil {
		return nil, err
	}
	payload, err := proto.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode report: %w", err)
	}
	if len(payload) > 1<<20 {
		return nil, rpc.Refuse(codes.InvalidArgument, "REPORT_TOO_LARGE", "report",
			fmt.Sprintf("報告が %d バイトあり、上限 %d バイトを超えています。長い内容は --attach で添えてください。", len(payload), 1<<20),
			fmt.Sprintf("The report has %d bytes, more than the limit of %d. Attach long content with --attach.", len(payload), 1<<20))
	}
	blind := check.Label(r.GetTlp()).NeedsSeal()
	var envelope []byte
	if blind {
		err = checkContent(r) // nobody after us can; it is sealed when the hub is reached
	} else {
		envelope, err = proto.Marshal(seal.Sign(n.id.signing, seal.ReportType(r.GetLane()), payload))
	}
	if err != nil {
		return nil, err
	}
	row := outboxRow{
		reportID: r.GetReportId(), caseID: r.GetCaseId(), sequence: r.GetSequence(), lane: r.GetLane(),
		label: tlp.Label(r.GetTlp()).String(), title: r.GetTitle(), requestID: randomID(), publishTime: r.GetCreateTime().AsTime(),
		report: payload, envelope: envelope, sealed: blind,
	}
	for _, p := range r.Parts() {
		row.parts = append(row.parts, p.GetDigest())
	}
	if err := n.store.publish(ctx, row); err != nil {
		return nil, err
	}
	n.log.InfoContext(ctx, "report published", "report", r.GetReportId(), "lane", r.GetLane().String())
	n.outgoing.signal()
	item, err := n.awaitAnswer(ctx, r.GetReportId(), req.GetWait().AsDuration())
	if err != nil {
		return nil, err
	}
	return &pb.PublishReportResponse{Item: item}, nil
}

// awaitAnswer waits until the hub has accepted or refused, or time is up.
func (n *Node) awaitAnswer(ctx context.Context, report string, wait time.Duration) (*pb.OutboxItem, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		changed := n.settled.wait()
		item, err := n.store.outboxItem(ctx, report)
		if err != nil || item.GetState() != pb.OutboxState_OUTBOX_STATE_QUEUED {
			return item, err
		}
		if denied := n.state.refused(); denied != nil && item.GetDelayReason() != "" {
			return nil, denied // it waits in the outbox all the same
		}
		select {
		case <-changed:
		case <-timer.C:
			return item, nil
		case <-ctx.Done():
			return item, nil // it is in the outbox all the same
		}
	}
}

// PlanReport asks the hub who would get the report. Where the hub may not read
// it, it gets the outline, and the rest of the answer is worked out here as for
// a submit.
func (n *Node) PlanReport(ctx context.Context, req *pb.NodeServicePlanReportRequest) (*pb.NodeServicePlanReportResponse, error) {
	r, err := n.complete(ctx, req.GetReport())
	if err != nil {
		return nil, err
	}
	if check.Label(r.GetTlp()).NeedsSeal() {
		plan, err := n.planSealed(ctx, r)
		if err != nil {
			return nil, err
		}
		return &pb.NodeServicePlanReportResponse{Plan: plan}, nil
	}
	resp, err := n.hub.PlanReport(ctx, &pb.PlanReportRequest{Report: r})
	if err != nil {
		return nil, hubError(err)
	}
	return &pb.NodeServicePlanReportResponse{Plan: resp.GetPlan()}, nil
}

// planSealed is the plan of a report that the hub may not read, with what each
// copy would lack. It is refused where sealing it would be.
func (n *Node) planSealed(ctx context.Context, r *pb.Report) (*pb.Plan, error) {
	if err := checkContent(r); err != nil {
		return nil, err
	}
	plan, err := n.planOutline(ctx, r)
	if err != nil {
		return nil, hubError(err)
	}
	forms, err := n.formsOf(ctx, r, plan.GetCopies())
	if err != nil {
		return nil, err
	}
	if _, err := n.holdersOfAll(ctx, plan.GetCopies()); err != nil {
		return nil, err
	}
	for _, c := range plan.GetCopies() {
		f := forms[formFor(forms, c)]
		c.Withheld, c.Generalised = f.withheld, f.generalised
	}
	return plan, nil
}

// complete is the report as it will be signed: what its author left out comes
// from the profile and the clock, and what nobody knows is UNKNOWN.
func (n *Node) complete(ctx context.Context, draft *pb.Report) (*pb.Report, error) {
	if draft == nil {
		return nil, rpc.Refuse(codes.InvalidArgument, "REPORT_MISSING", "report", "報告がありません。", "The report is missing.")
	}
	if draft.GetLane() == pb.Lane_LANE_UNSPECIFIED {
		// Never a default: a drill must not be published as real.
		return nil, rpc.Refuse(codes.InvalidArgument, "LANE_MISSING", "lane",
			"実 (LANE_LIVE) か訓練 (LANE_EXERCISE) を指定してください。", "Give LANE_LIVE or LANE_EXERCISE.")
	}
	profile, _, err := n.store.profile(ctx)
	if err != nil {
		return nil, err
	}
	r := proto.CloneOf(draft)
	now := time.Now().Truncate(time.Second)
	if err := n.inherit(ctx, r); err != nil {
		return nil, err
	}
	if r.GetKind() == pb.Kind_KIND_UNSPECIFIED {
		if r.Kind, err = n.usualKind(ctx); err != nil {
			return nil, err
		}
	}
	fillIdentity(r, profile)
	fillUnknown(r, now)
	if r.GetReportId() == "" {
		r.ReportId = randomID()
	}
	if r.GetCaseId() == "" {
		r.CaseId = randomID()
	}
	if r.GetSequence() == 0 {
		if r.Sequence, err = n.store.nextSequence(ctx, r.GetCaseId()); err != nil {
			return nil, err
		}
	}
	if r.GetStage() == pb.Stage_STAGE_UNSPECIFIED {
		r.Stage = pb.Stage_STAGE_PRELIMINARY
		if r.GetSequence() > 1 {
			r.Stage = pb.Stage_STAGE_FOLLOW_UP
		}
	}
	return r, nil
}

// fillIdentity says who reports and where, as the profile has it.
func fillIdentity(r *pb.Report, p *pb.Profile) {
	if r.GetReporter() == nil {
		r.Reporter = &pb.Reporter{Organisation: p.GetOrganisation()}
		for _, d := range p.GetDesks() {
			if r.Reporter.Unit == "" {
				r.Reporter.Unit = d.GetName()
			}
			r.Reporter.Contacts = append(r.Reporter.Contacts, d.GetContacts()...)
		}
	}
	if r.GetPlace() == nil {
		r.Place = &pb.Place{Certainty: pb.Certainty_CERTAINTY_UNKNOWN}
		if at := p.GetPlace(); at != nil {
			r.Place = proto.CloneOf(at)
			r.Place.Certainty = pb.Certainty_CERTAINTY_PROBABLE
		}
	}
}

// fillUnknown writes UNKNOWN where the author said nothing: a first report may
// be fragmentary (guideline 2.1.3).
func fillUnknown(r *pb.Report, now time.Time) {
	unknown := pb.Certainty_CERTAINTY_UNKNOWN
	if r.GetReason() == pb.Reason_REASON_UNSPECIFIED {
		r.Reason = pb.Reason_REASON_SHARING // nothing goes to the ministry unless its author says so
	}
	if r.GetSecrecyRegime() == pb.SecrecyRegime_SECRECY_REGIME_UNSPECIFIED {
		r.SecrecyRegime = pb.SecrecyRegime_SECRECY_REGIME_NONE
	}
	if r.GetRouteChoice() == pb.RouteChoice_ROUTE_CHOICE_UNSPECIFIED {
		r.RouteChoice = pb.RouteChoice_ROUTE_CHOICE_DIRECT
	}
	if r.GetOccurred() == nil {
		r.Occurred = &pb.Moment{Certainty: unknown}
	}
	if r.GetRecognised() == nil {
		r.Recognised = &pb.Moment{Time: timestamppb.New(now), Precision: pb.Precision_PRECISION_MINUTE, Certainty: pb.Certainty_CERTAINTY_PROBABLE}
	}
	// What the author wrote beside the missing word stays.
	if r.Event = orNew(r.Event); len(r.Event.Types) == 0 {
		r.Event.Types = []pb.EventType{pb.EventType_EVENT_TYPE_UNKNOWN}
		fillCertainty(&r.Event.Certainty)
	}
	if r.Cause = orNew(r.Cause); r.Cause.Class == pb.CauseClass_CAUSE_CLASS_UNSPECIFIED {
		r.Cause.Class = pb.CauseClass_CAUSE_CLASS_UNKNOWN
		fillCertainty(&r.Cause.Certainty)
	}
	if r.Impact = orNew(r.Impact); r.Impact.Business == pb.BusinessImpact_BUSINESS_IMPACT_UNSPECIFIED {
		r.Impact.Business = pb.BusinessImpact_BUSINESS_IMPACT_UNKNOWN
		fillCertainty(&r.Impact.Certainty)
	}
	if r.Spread = orNew(r.Spread); r.Spread.Risk == pb.SpreadRisk_SPREAD_RISK_UNSPECIFIED {
		r.Spread.Risk = pb.SpreadRisk_SPREAD_RISK_UNKNOWN
		fillCertainty(&r.Spread.Certainty)
	}
	if r.Recovery = orNew(r.Recovery); r.Recovery.State == pb.RecoveryState_RECOVERY_STATE_UNSPECIFIED {
		r.Recovery.State = pb.RecoveryState_RECOVERY_STATE_UNKNOWN
		fillCertainty(&r.Recovery.Certainty)
	}
	if r.GetPersonalData() == pb.PersonalData_PERSONAL_DATA_UNSPECIFIED {
		r.PersonalData = pb.PersonalData_PERSONAL_DATA_UNKNOWN
	}
	if r.GetCreateTime() == nil {
		r.CreateTime = timestamppb.New(now)
	}
	if r.GetRetentionTime() == nil {
		r.RetentionTime = timestamppb.New(now.Add(keptByDefault))
	}
}

// orNew is the message, or an empty one where the author wrote none.
func orNew[M any](m *M) *M {
	if m == nil {
		return new(M)
	}
	return m
}

func fillCertainty(c *pb.Certainty) {
	if *c == pb.Certainty_CERTAINTY_UNSPECIFIED {
		*c = pb.Certainty_CERTAINTY_UNKNOWN
	}
}

// hubError says in the node's words that the hub was not reached; a refusal
// passes as it is.
func hubError(err error) error {
	if _, ok := rpc.RefusalOf(err); ok {
		return err
	}
	return errors.Join(rpc.Refuse(codes.Unavailable, "HUB_NOT_REACHED", "hub",
		"ハブに接続できません。ネットワークとハブの状態を確かめてください: minato status",
		"The hub cannot be reached. Check the network and the hub: minato status"), err)
}
