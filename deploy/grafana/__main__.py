"""`python -m deploy.grafana` draws the dashboards into the files that Grafana reads; a test sees when they are behind."""

from deploy.grafana.rendering import FOLDER, render


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in render().items():
        (FOLDER / name).write_text(text)
        print(f"deploy/grafana/dashboards/{name}")


if __name__ == "__main__":
    main()
