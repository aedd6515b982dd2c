"""`python -m lomas_gql` is the command `lomas-gql`."""

from lomas_gql.cli import main

if __name__ == "__main__":
    main()
