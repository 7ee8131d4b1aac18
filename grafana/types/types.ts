// What Grafana's own types say of a dashboard's JSON. types_test.go puts each dashboard
// below this, one constant for each panel, and has the TypeScript compiler look at it.
import type * as g from '@grafana/schema';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as timeline from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// JSON has an enumeration's values where the types have its names.
type Plain<T> = T extends string
  ? `${T}`
  : T extends number | boolean | null | undefined
    ? T
    : T extends (infer U)[]
      ? Plain<U>[]
      : T extends object
        ? { [K in keyof T]: Plain<T[K]> }
        : T;

// Prometheus's part of a query and of an annotation is not in @grafana/schema.
type Target = Plain<g.DataQuery> & {
  expr: string;
  legendFormat: string;
  editorMode: 'code' | 'builder';
  format: 'time_series' | 'table' | 'heatmap';
  instant: boolean;
  range: boolean;
};
type Annotation = Plain<g.AnnotationQuery> & {
  expr: string;
  titleFormat: string;
  textFormat: string;
  step: string;
  useValueForTime: boolean;
};

// Panels and dashboards leave nothing out that their types have as optional and
// everybody needs.
type Needed = 'id' | 'title' | 'description' | 'datasource' | 'gridPos';
type Visual<Kind extends string, Options, Custom> = Omit<Plain<g.Panel>, Needed | 'type' | 'options' | 'fieldConfig' | 'targets'> &
  Required<Pick<Plain<g.Panel>, Needed>> & {
    type: Kind;
    targets: Target[];
    options: Plain<Options>;
    fieldConfig: {
      defaults: Omit<Plain<g.FieldConfig>, 'custom' | 'unit'> & { unit: string; custom: Plain<Custom> };
      overrides: {
        matcher: { id: 'byName' | 'byRegexp'; options: string };
        properties: { id: keyof g.FieldConfig | `custom.${keyof Custom & string}`; value: unknown }[];
      }[];
    };
  };
// percentChangeColorMode paints what showPercentChange shows, which is off; Grafana 11.0
// does not have it yet.
type StatPanel = Visual<'stat', Omit<stat.Options, 'percentChangeColorMode'>, Record<string, never>>;
type TimeseriesPanel = Visual<'timeseries', timeseries.Options, timeseries.FieldConfig>;
type StateTimelinePanel = Visual<'state-timeline', timeline.Options, timeline.FieldConfig>;
type TablePanel = Visual<'table', table.Options, table.FieldConfig>;
type Row = Plain<g.RowPanel>;
type Dashboard = Omit<Plain<g.Dashboard>, 'panels' | 'annotations' | 'uid' | 'templating'> & {
  uid: string;
  annotations: { list: Annotation[] };
  templating: { list: (Plain<g.VariableModel> & { definition?: string })[] };
  panels: (Row | StatPanel | TimeseriesPanel | StateTimelinePanel | TablePanel)[];
};

