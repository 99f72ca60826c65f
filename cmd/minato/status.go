package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	pb "minato.example/proto/minato/v1"
)

func (a *app) statusCommand() *cobra.Command {
	return a.command("status", about{
		short:   Text{"ノードの状態を一画面で表示します", "Show on one screen how the node is"},
		example: "minato status",
	}, a.exactly(), func(c *cobra.Command, _ []string) error {
		return a.withNode(c.Context(), func(n pb.NodeServiceClient) error {
			ctx, cancel := context.WithTimeout(c.Context(), callTime)
			defer cancel()
			s, err := n.GetStatus(ctx, &pb.GetStatusRequest{})
			if err != nil {
				return err
			}
			if a.json {
				return a.emitFull(s)
			}
			hub := a.t("接続", "connected")
			if !s.GetConnected() {
				hub = a.t("未接続", "not connected")
				if s.GetDisconnectReason() != "" {
					hub += ": " + reasonText(s.GetDisconnectReason()).in(a.lang)
				}
			}
			return a.facts([][2]string{
				{a.t("港", "port"), plain(s.GetPortId())},
				{a.t("会員", "member"), fmt.Sprintf(a.t("%s %s (ノード %d)", "%s %s (node %d)"), plain(s.GetMember()), plain(s.GetMemberName()), s.GetNode())},
				{a.t("ハブ", "hub"), plain(s.GetHubAddress()) + "  " + hub},
				{a.t("証明書", "certificate"), fmt.Sprintf(a.t("%s まで (自動で更新)", "until %s (renewed by itself)"), a.moment(s.GetCertificateExpireTime()))},
				{a.t("送信箱", "outbox"), fmt.Sprintf(a.t("送信待ち %d 件, 拒否 %d 件", "%d queued, %d refused"), s.GetQueued(), s.GetRefused())},
				{a.t("受信箱", "inbox"), fmt.Sprintf(a.t("%d 件, 未応答 %d 件", "%d received, %d without an answer"), s.GetReceived(), s.GetUnacknowledged())},
				{a.t("訓練", "exercises"), fmt.Sprintf(a.t("%d 件", "%d received"), s.GetExercises())},
			})
		})
	})
}
