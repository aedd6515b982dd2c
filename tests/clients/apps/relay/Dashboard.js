// What a component with Relay declares; relay-compiler makes artifacts of it.
import { graphql } from "react-relay";

graphql`
  query DashboardQuery($first: Int!) {
    viewer {
      name
    }
    datasets(first: $first) {
      edges {
        node {
          ...Dashboard_dataset
        }
      }
    }
  }
`;

graphql`
  fragment Dashboard_dataset on Dataset
  @refetchable(queryName: "DashboardHistoryQuery")
  @argumentDefinitions(count: { type: "Int", defaultValue: 2 }, cursor: { type: "String" }) {
    name
    budget {
      remaining {
        epsilon
      }
    }
    history(first: $count, after: $cursor) @connection(key: "Dashboard_history") {
      edges {
        node {
          status
          cost {
            epsilon
          }
        }
      }
    }
  }
`;

graphql`
  mutation DashboardExecuteMutation($input: DpQueryInput!) {
    execute(input: $input) {
      ... on Executed {
        release {
          status
        }
      }
      ... on UserError {
        message
      }
    }
  }
`;
