from components.evaluate.stage import STAGE

STAGE.main()
